//! Mode move: there is one copy of each layer, and what a container writes into it on overlayfs must be there for aufs after a rollback.

use super::bed::{self, Fs};
use crate::support::private::{self, this_test};
use crate::support::stack::disk;
use crate::support::stack::model::View;
use crate::support::stack::store::{self, Cast, Containers};
use crate::support::stack::text;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const STACK: &str = r"
    layer
    f etc/passwd =root
    f etc/shadow mode=0600
    f var/lib/data
    f var/log/old
    f d/one
    f d/two
    f gone
    f gonedir/inner
    f opaque/below
    f own/below
    f long_name_that_stays
    f zero =covered
    f deep/er/er/file
    f chmod/file
    layer
    f etc/group =wheel
    f d/three
    w d/two
    f var/lib/more
    layer
    f etc/passwd =changed
    w gone as=link
    w gonedir
    w d/one as=link
    w nothing
    w nodir
    o opaque
    w opaque/redundant
    f opaque/own
    w own/below
    f own/mine
    f beside =above
    w beside
    d besidedir
    f besidedir/in
    w besidedir
    c zero 0:0
    f attr =x x:trusted.overlay.origin=data x:user.kept=1
    d attrs x:trusted.overlay.opaque=y
    i .wh..wh.plnk/
    i .wh..wh.plnk/7.9 -> etc/passwd
    i .wh..wh.orph/
";

/// What a container does.
fn work(at: &Path) -> View {
    let path = |p: &str| at.join(p);
    let write = |p: &str| fs::write(path(p), format!("new {p}")).unwrap_or_else(|e| panic!("{p}: {e}"));
    let mkdir = |p: &str| fs::create_dir(path(p)).unwrap_or_else(|e| panic!("{p}: {e}"));
    let rm = |p: &str| fs::remove_file(path(p)).unwrap_or_else(|e| panic!("{p}: {e}"));
    rm("etc/shadow");
    rm("etc/group");
    write("etc/group");
    write("long_name_that_stays");
    fs::remove_dir_all(path("var")).expect("rm -r var");
    mkdir("var");
    mkdir("var/lib");
    write("var/lib/data2");
    // over whiteouts of the old store
    write("gone");
    mkdir("gonedir");
    write("gonedir/other");
    write("nothing");
    mkdir("nodir");
    write("nodir/in");
    write("d/one");
    rm("d/three");
    write("opaque/redundant");
    rm("opaque/own");
    // a folder with marks, away and made anew
    fs::remove_dir_all(path("own")).expect("rm -r own");
    mkdir("own");
    write("own/fresh");
    rm("beside");
    fs::remove_dir_all(path("besidedir")).expect("rm -r besidedir");
    rm("attr");
    fs::hard_link(path("etc/passwd"), path("etc/passwd2")).expect("link");
    rm("deep/er/er/file");
    fs::set_permissions(path("chmod"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("chmod");
    let mut out = disk::read(at);
    // what aufs would take for a marker is set aside
    let root = out.get(&b""[..]).cloned();
    let times = fs::symlink_metadata(at).expect("stat");
    write(".wh.odd");
    let file = fs::File::open(at).expect("open");
    let back = fs::FileTimes::new().set_modified(times.modified().expect("a time"));
    file.set_times(back).expect("times");
    drop(file);
    assert_eq!(disk::read(at).get(&b""[..]).cloned(), root);
    out.retain(|p, _| p != b".wh.odd");
    out
}

fn branches(root: &Path, casts: &[Cast], but: &str) -> BTreeMap<String, View> {
    let others = casts.iter().filter(|c| c.id != but);
    others.map(|c| (c.id.clone(), disk::read(&root.join("aufs/diff").join(&c.id)))).collect()
}

#[test]
fn what_a_container_wrote_comes_along() {
    if !bed::able() || private::elsewhere(this_test!()) {
        return;
    }
    let root = Fs::Ext4.mount("disk").join("docker");
    fs::create_dir(&root).expect("a root");
    let casts = store::write(&text::parse(STACK), &root, Containers::All);
    let containers: Vec<&Cast> = casts.iter().filter(|c| c.writable && !c.id.ends_with("-init")).collect();
    let (worked, idle) = (containers[0], containers[1]);
    let before = branches(&root, &casts, &worked.id);

    bed::unaufs(&root, &["migrate", "--mode", "move", "--verify", "full", "--yes", "--quiet"], 0);
    let wanted = bed::written(&root, worked, work);
    let said = bed::unaufs(&root, &["rollback", "--yes"], 0);
    assert!(said.contains("/.wh.odd: "), "{said}");
    assert!(said.contains("written back for aufs"), "{said}");
    let kept = root.join(".unaufs/undone/overlay2").join(&worked.id);
    assert!(kept.join("diff/.wh.odd").is_file(), "what was set aside is kept");
    assert!(!root.join(".unaufs/moved").exists(), "the records are left");

    let mut wrong = Vec::new();
    for (id, was) in &before {
        let is = disk::read(&root.join("aufs/diff").join(id));
        wrong.extend(bed::differences(was, &is).into_iter().map(|d| format!("branch {}: {d}", &id[..8])));
    }
    // what aufs has now, read by the other way to overlay2
    bed::unaufs(&root, &["migrate", "--mode", "copy", "--verify", "full", "--yes", "--quiet"], 0);
    wrong.extend(bed::differences(&wanted, &bed::seen(&root, "overlay2", worked)));
    wrong.extend(bed::differences(&idle.view(true), &bed::seen(&root, "overlay2", idle)));
    bed::none(&wrong);
}

/// A container whose layer Docker has removed is told; there is no other copy of it.
#[test]
fn what_docker_deletes_is_gone_and_told() {
    if !bed::able() || private::elsewhere(this_test!()) {
        return;
    }
    let root = Fs::Ext4.mount("disk").join("docker");
    fs::create_dir(&root).expect("a root");
    let casts = store::write(&text::parse(STACK), &root, Containers::All);
    let deleted = casts.iter().rfind(|c| c.writable).expect("a container");
    let before = branches(&root, &casts, &deleted.id);
    bed::unaufs(&root, &["migrate", "--mode", "move", "--yes", "--quiet"], 0);
    fs::remove_dir_all(root.join("overlay2").join(&deleted.id)).expect("docker rm");
    let said = bed::unaufs(&root, &["rollback", "--yes"], 0);
    assert!(said.contains(&format!("Docker has deleted what was aufs/diff/{}", deleted.id)), "{said}");
    assert_eq!(before, branches(&root, &casts, &deleted.id));
}

/// A wrong or missing device, a lost mark and a changed time are found; so is what the way back would miss.
#[test]
fn verification_is_no_formality() {
    if !bed::able() || private::elsewhere(this_test!()) {
        return;
    }
    let root = Fs::Ext4.mount("disk").join("docker");
    fs::create_dir(&root).expect("a root");
    let casts = store::write(&text::parse(STACK), &root, Containers::All);
    let id = &casts.iter().rfind(|c| !c.writable).expect("an image").id;
    bed::unaufs(&root, &["migrate", "--mode", "move", "--yes", "--quiet"], 0);
    let (diff, kept) = (root.join("overlay2").join(id).join("diff"), root.join(".unaufs/moved/names").join(id));
    let finds = |what: &str, spoil: &dyn Fn(), mend: &dyn Fn()| {
        bed::unaufs(&root, &["verify", "--level", "fast", "--quiet"], 0);
        spoil();
        let said = bed::unaufs(&root, &["verify", "--level", "fast"], 6);
        assert!(said.contains(what), "wanted {what}:\n{said}");
        mend();
    };
    let mv = |a: &Path, b: &Path| fs::rename(a, b).expect("rename");
    let aside = root.join("aside");
    let mtime = |p: &Path| fs::symlink_metadata(p).expect("stat").modified().expect("a time");
    let top = mtime(&diff);
    let set = |p: &Path, t| {
        let times = fs::FileTimes::new().set_modified(t);
        fs::File::open(p).and_then(|f| f.set_times(times)).expect("times");
    };
    finds("/gone: only in the new store", &|| mv(&diff.join("gone"), &aside), &|| {
        mv(&aside, &diff.join("gone"));
        set(&diff, top);
    });
    let opaque = diff.join("opaque");
    let mark = "trusted.overlay.opaque";
    finds("/opaque/below: only in the new store", &|| xattr::remove(&opaque, mark).expect("xattr"), &|| {
        xattr::set(&opaque, mark, b"y").expect("xattr");
    });
    finds("modified at another time", &|| set(&diff, std::time::SystemTime::now()), &|| set(&diff, top));
    finds("is not kept", &|| mv(&kept.join(".wh.gone"), &aside), &|| mv(&aside, &kept.join(".wh.gone")));
    // a device that nobody made: over a name of other layers too, and over one that only this layer has
    for name in ["etc/passwd", "besidedir/in"] {
        let (file, folder) = (diff.join(name), diff.join(name).parent().expect("a folder").to_owned());
        let time = mtime(&folder);
        finds(
            &format!("/{name}: a whiteout that was not made here"),
            &|| {
                mv(&file, &aside);
                fs::hard_link(diff.join("gone"), &file).expect("link");
            },
            &|| {
                fs::remove_file(&file).expect("rm");
                mv(&aside, &file);
                set(&folder, time);
            },
        );
    }
    fs::write(diff.join("etc/.wh.shadow"), "").expect("write");
    let said = bed::unaufs(&root, &["verify", "--level", "fast"], 6);
    assert!(said.contains("a mark of aufs"), "{said}");
    let said = bed::unaufs(&root, &["verify", "--level", "full"], 6);
    assert!(said.contains("/etc/.wh.shadow: only in the new store"), "{said}");
}
