#!/bin/bash
# tests/bench/fresh.sh [DIR]: unaufs against find, cp -al and tar, each run on a fresh copy of one file system image.
# ext4 hands out no inode that was freed a moment ago, so a second run on one file system would measure ext4. A store is made in an image; for
# each run the image is copied, mounted on a loop device and read once, and everything is timed with `sync -f` at its end. Prints a Markdown
# table of medians of RUNS (default 5) runs in turn.
#
# PARTS is a list of:
#   depth      FILES files in LAYERS layers, each of the two a list. SHARED=0 gives each layer directories of its own, DIGESTS=0 leaves out the
#              tar-split data, and with them the proof by headers
#   real       Debian and sets of packages (real_stack.py; with network), and the export of it; against balenaEngine's converter too, if BALENA
#              is a program that calls Migrate of its pkg/storagemigration with its first argument (https://github.com/balena-os/balena-engine)
#   vfs        complete trees by links
#   downtime   what is left to do after --prepare
#
# Needs root, and in DIR about 5 KiB for each file, twice. Not part of the tests: a clock never decides whether a test passes.
set -eu
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$(mktemp -d /var/tmp/unaufs-fresh.XXXXXX)}
bin=${UNAUFS:-}
if [ -z "$bin" ]; then
    (cd "$here/../.." && cargo build --release --quiet)
    bin=${CARGO_TARGET_DIR:-$here/../../target}/release/unaufs
fi
mkdir -p "$dir/at"
cleanup() { mountpoint -q "$dir/at" && umount "$dir/at"; rm -rf "$dir"; }
trap cleanup EXIT

# fresh COMMAND [BEFORE]: nanoseconds of the command on a fresh copy of the image, its store at $s; BEFORE is not timed
fresh() {
    # another file each time: a loop device may still hold the one before
    rm -f "$dir/run.img"
    cp --sparse=always "$dir/base.img" "$dir/run.img"
    mount -o loop "$dir/run.img" "$dir/at"
    bash -c "${2:-true} && sync -f $dir/at" >/dev/null
    find "$s" -printf %s >/dev/null
    local begin end
    begin=$(date +%s%N)
    bash -c "$1 && sync -f $dir/at" >/dev/null
    end=$(date +%s%N)
    umount "$dir/at"
    echo $((end - begin))
}

# row NAME OURS THEIRS [BEFORE OURS [BEFORE THEIRS]]
row() {
    local ours=() theirs=() took
    for _ in $(seq "${RUNS:-5}"); do
        took=$(fresh "$2" "${4:-}")
        ours+=("$took")
        took=$(fresh "$3" "${5:-}")
        theirs+=("$took")
    done
    python3 - "$1" "${ours[*]}" "${theirs[*]}" <<'PY'
import statistics, sys
ours, theirs = ([int(n) / 1e9 for n in text.split()] for text in sys.argv[2:])
ratio = statistics.median(o / t for o, t in zip(ours, theirs))
print(f"| {sys.argv[1]} | {statistics.median(ours):.2f} s | {statistics.median(theirs):.2f} s | {ratio:.2f} |", flush=True)
PY
}

# image BYTES INODES COMMAND: an image whose store COMMAND makes
image() {
    rm -f "$dir/base.img"
    truncate -s "$1" "$dir/base.img"
    mkfs.ext4 -q -F -N "$2" "$dir/base.img"
    mount -o loop "$dir/base.img" "$dir/at"
    bash -c "$3" >/dev/null
    umount "$dir/at"
    sync "$dir/base.img"
}

s=$dir/at/docker
[ "${SHARED:-1}" = 0 ] && shared= || shared=--shared
[ "${DIGESTS:-1}" = 0 ] && digests= || digests=--digests
migrate="$bin --root $s migrate --yes -q --progress none"
store="python3 $here/make_store.py $s"

# rows OF: what people wait for
rows() {
    row "plan : find -printf %s, $1" "$bin --root $s plan -q --progress none" "find $s/aufs/diff -printf %s"
    row "link, verify none : cp -al, $1" "$migrate --mode link --verify none" "cp -al $s/aufs/diff $dir/at/copy"
    row "link, verify fast : cp -al, $1" "$migrate --mode link --verify fast" "cp -al $s/aufs/diff $dir/at/copy"
    row "verify fast : cp -al, $1" "$bin --root $s verify --level fast -q" "cp -al $s/aufs/diff $dir/at/copy" "$migrate --mode link --verify none"
}

depth() {
    local files layers
    for files in ${FILES:-10000 100000 190000 300000 1000000}; do
        for layers in ${LAYERS:-5 20 120}; do
            image $((files * 5500 + (512 << 20))) $((files * 4 + 200000)) "$store --layers $layers --files $files $shared $digests"
            rows "$files files in $layers layers"
        done
    done
}

real() {
    [ -d "$dir/real" ] || python3 "$here/real_stack.py" "$dir/real" >&2
    image $((8 << 30)) 400000 "cp -a $dir/real $s"
    rows "packages of Debian"
    [ -z "${BALENA:-}" ] || row "link, verify none : balenaEngine, packages of Debian" "$migrate --mode link --verify none" "$BALENA $s 2>&1"
    row "export : tar cf, packages of Debian" "$bin --root $s export --all -o $dir/at/a.tar -q --progress none" "tar cf $dir/at/a.tar -C $s/aufs/diff ."
}

vfs() {
    # the flattened trees as unaufs itself makes them: its names are what a cp -al of them makes, too
    image $((4 << 30)) 1500000 "$store --layers 20 --files 40000 $shared &&
        $migrate --to vfs --mode link --verify none && cp -al $s/vfs/dir $dir/at/flat && $bin --root $s rollback --drop-new --yes -q"
    row "vfs by links, 40000 files in 20 layers : cp -al of the flattened trees" \
        "$migrate --to vfs --mode link --verify none" "cp -al $dir/at/flat $dir/at/copy"
}

downtime() {
    image $((2 << 30)) 1500000 "$store --layers 40 --files 300000 --containers 10"
    row "after --prepare : all of it, 300000 files in 40 layers, 10 containers" "$migrate" "$migrate" "$migrate --prepare"
}

echo "| what | unaufs | other | ratio |"
echo "|---|---|---|---|"
for part in ${PARTS:-depth real vfs downtime}; do
    "$part"
done
