//! Every trap of the way from aufs to the others (FORMATS 11), by its number.

use super::bed::conforms;

conforms! {
    /// The plain case, so that a failure elsewhere is known to be about the trap.
    trap_00_files_folders_and_deletions: "
        layer
        f etc/passwd =root
        f etc/shadow mode=0600
        d var/lib
        s lib -> usr/lib
        layer
        f etc/passwd =root2
        w etc/shadow
        f var/lib/new
        layer
        w var
        f etc/shadow =again
    ";

    /// `foo` next to `.wh.foo`: the file is the layer's, and a directory hides what is below.
    trap_01_a_name_beside_its_own_whiteout: "
        layer
        f file =below
        f folder/below =x
        f folder/sub/below
        f becomes_folder
        f becomes_file/inner
        layer
        f file =above
        w file
        f folder/above
        f folder/sub/above
        w folder
        f becomes_folder/new
        w becomes_folder
        f becomes_file =now
        w becomes_file
    ";

    /// A whiteout of a name that nobody has must leave no ghost: not at the root, not in a merged directory, not in a directory of one layer
    /// only, not in an opaque one, not in the bottom layer.
    trap_02_a_whiteout_of_nothing: "
        layer
        w nothing
        w only/nothing
        f only/there
        f merged/there
        w merged/nothing
        layer
        w neither
        w only/neither
        w merged/neither
        f merged/more
        w fresh/nothing
        f fresh/there
        d empty
        w empty/nothing
        layer
        w nothing
        w fresh/nothing
        w empty/nothing
        w merged/there
        layer
        w merged/there
        w merged/nothing
    ";

    trap_03_an_opaque_mark_where_nothing_is_below: "
        layer
        f other
        layer
        d new/sub
        o new
        o new/sub
        f new/file
        layer
        f new/more
    ";

    trap_04_whiteouts_in_an_opaque_folder: "
        layer
        f d/one
        f d/two
        f d/sub/three
        layer
        o d
        w d/one
        w d/nothing
        w d/sub
        f d/kept
        layer
        w d/kept
    ";

    trap_05_an_opaque_mark_on_the_root: "
        layer
        f below
        f folder/below
        layer
        o .
        f above
        layer
        o .
        w below
    ";

    /// What `rm -rf d; mkdir d` leaves behind: a directory with a mark and no whiteout.
    trap_06_a_folder_made_anew: "
        layer
        f d/old
        f d/sub/old
        layer
        o d
        f d/new
        f d/sub/new
        layer
        w d
        layer
        d d
        f d/newest
    ";

    /// Directory, file, directory: the upper directory does not merge with the lowest.
    trap_07_type_changes: "
        layer
        f a/lowest
        f b =file
        s c -> a
        f d/sub/lowest
        f e/x
        layer
        f a =file
        f b/inner
        f c/inner
        s d -> a
        c e 1:3
        layer
        f a/uppermost
        s b -> a
        f c =file
        f d/sub/uppermost
        p e
    ";

    trap_07_a_folder_over_a_symlink_to_a_folder: "
        layer
        f usr/lib/libc
        s lib -> usr/lib
        layer
        f lib/modules
        layer
        w lib/modules
        w usr/lib/libc
    ";

    /// Groups of names within a layer; pseudo-links and the whiteouts' common inode are no part of them.
    trap_08_hard_links: "
        layer
        f a/one =linked
        h a/two -> a/one
        h b/three -> a/one
        f single
        i .wh..wh.plnk/17.42 -> single
        i .wh..wh.plnk/18.43 -> a/one
        layer
        w a/two
        f b/three =replaced
        f c/x
        h c/y -> c/x
        w gone1 as=link
        w gone2 as=link
        layer
        w a/one
        w c/x as=link
    ";

    trap_09_names_that_mean_nothing: "
        layer
        f d/file
        f opq
        f .wh
        f d/.who
        layer
        i .wh.
        i .wh..
        i .wh...
        i d/.wh.
        i d/.wh..wh.d.01ab
        i d/.wh..wh.plnk/file
        i .wh..wh.old.ffff/inner
        f d/added
    ";

    trap_10_whiteouts_of_every_form: "
        layer
        f a
        f b
        f c
        f d
        f e
        f f/inner
        f kept
        layer
        w a as=text
        w b as=folder
        w c as=symlink
        w d as=fifo
        w e as=link
        w f as=link
    ";

    /// A device 0:0 is data on vfs and btrfs; on the overlay drivers it is a deletion, below too.
    trap_11_devices_0_0: "
        layer
        c zero 0:0
        f d/file
        c d/zero 0:0
        f d/covered
        f only/file
        layer
        c d/covered 0:0
        f zero =file
        c alone/zero 0:0
        f alone/file
        c only/zero 0:0
        layer
        w alone/zero
        f d/covered =again
        o only
        c only/zero 0:0
        c only/file 0:0
    ";

    trap_12_attributes_of_every_kind: "
        layer
        f cap x:security.capability=\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00 owner=5:6
        f user x:user.a=1 x:user.empty= x:trusted.t=2
        d folder x:user.d=3 x:trusted.d=4
        layer
        d folder x:user.other=5
        f user x:user.b=6
    ";

    trap_14_the_root_s_own_attributes: "
        layer
        d . mode=0750 owner=10:20 time=1000.000000001 x:user.root=base
        f a
        layer
        d . mode=1777 owner=30:40 time=2000.000000002
        layer
        d . mode=0711 time=-5.999999999 x:user.root=top
    ";

    trap_15_sockets_fifos_and_devices: "
        layer
        k run/socket mode=0666 owner=3:4
        p run/fifo mode=0640
        c dev/null 1:3 mode=0666
        b dev/sda 8:0 mode=0660 owner=0:6
        c dev/large 511:1048575
        layer
        w run/socket
        p dev/null
    ";

    trap_17_holes: "
        layer
        f sparse holes
        f full bytes=300000
        layer
        f above holes
    ";

    trap_20_owners_of_another_user_namespace: "
        layer
        d . owner=231072:231072
        f a owner=231072:231073
        w b
        layer
        f c owner=4294967294:4294967293
    ";

    /// Content between two marks of one directory: aufs showed it, nobody else does.
    trap_26_two_opaque_marks_in_one_stack: "
        layer
        f d/lowest
        f d/sub/lowest
        layer
        o d
        f d/between
        f d/sub/between
        layer
        o d
        f d/upper
        f d/sub/upper
    ";

    trap_27_names_over_242_bytes: &format!("
        layer
        f {n242}
        f {n243}
        f {n251}
        f {n255}
        f d/{n255}/inner
        layer
        w {n242}
        f d/{n255}/more
        f {n255} =replaced
    ", n242 = "a".repeat(242), n243 = "b".repeat(243), n251 = "c".repeat(251), n255 = "d".repeat(255));

    /// Docker in Docker: attributes that overlayfs would obey.
    trap_28_overlay_attributes_as_data: "
        layer
        f var/docker/diff/file x:trusted.overlay.origin=o x:user.kept=k
        d var/docker/diff/opaque x:trusted.overlay.opaque=y
        f var/docker/diff/opaque/inner
        d var/docker/diff/redirected x:trusted.overlay.redirect=/elsewhere
        f var/docker/diff/redirected/inner
        layer
        d var/docker/diff/opaque x:trusted.overlay.opaque=x
        f var/docker/diff/opaque/more
        d var/docker/diff/redirected
        f var/docker/diff/plain
    ";

    trap_29_whiteouts_and_pseudo_links_that_outlived_their_names: "
        layer
        f a
        f b
        layer
        w a as=link
        w nothing as=link
        i .wh..wh.plnk/1.2
        i .wh..wh.plnk/3.4
        i .wh..wh.orph/5
        f c
        h d -> c
        i .wh..wh.plnk/6.7 -> c
    ";
}
