#!/bin/bash
# tests/bench/run.sh [DIR]: unaufs against cp, find and rsync on stores made for it; prints a Markdown table of ratios.
# Each row: one warm-up, then RUNS (default 5) runs in turn on one file system, caches warmed alike. Needs about 8 GiB in DIR and,
# for the copy to another file system, root and a loop device. Not part of the tests: a clock never decides whether a test passes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$(mktemp -d /var/tmp/unaufs-bench.XXXXXX)}
runs=${RUNS:-5}
bin=${UNAUFS:-}
if [ -z "$bin" ]; then
    (cd "$here/../.." && cargo build --release --quiet)
    bin=${CARGO_TARGET_DIR:-$here/../../target}/release/unaufs
fi
mkdir -p "$dir"
other=$dir/other
cleanup() { mountpoint -q "$other" && umount "$other"; rm -rf "$dir"; }
trap cleanup EXIT
make() { python3 "$here/make_store.py" "$@"; }
ratio() { python3 "$here/ratio.py" -n "$runs" "$@"; }
undo() { echo "$bin --root $1 rollback --drop-new --yes -q"; }
migrate="migrate --yes -q --progress none"

echo "| what | unaufs | other | ratio | goal | cpu / wall | memory |"
echo "|---|---|---|---|---|---|---|"

s=$dir/s300k
make "$s" --layers 40 --files 300000
ratio "link, no verification : cp -al aufs/diff" 0.6 \
    --ours "$bin --root $s $migrate --mode link --verify none" --after-ours "$(undo "$s")" \
    --theirs "cp -al $s/aufs/diff $dir/cpal" --after-theirs "rm -rf $dir/cpal"
ratio "link, verify fast : cp -al aufs/diff" 1.2 \
    --ours "$bin --root $s $migrate --mode link --verify fast" --after-ours "$(undo "$s")" \
    --theirs "cp -al $s/aufs/diff $dir/cpal" --after-theirs "rm -rf $dir/cpal"
ratio "plan : find -printf %s" 1.0 \
    --ours "$bin --root $s plan -q --progress none" --theirs "find $s/aufs/diff -printf %s"
if [ "$(id -u)" = 0 ] && "$bin" migrate --help | grep -q -- --target; then
    truncate -s 12G "$dir/other.img"
    mkfs.ext4 -q -F "$dir/other.img"
    mkdir -p "$other"
    mount -o loop "$dir/other.img" "$other"
    c=$dir/s100k
    make "$c" --layers 20 --files 100000 --size 3000
    for tool in "cp -a:0.8:cp -a $c/aufs/diff $other/theirs" "rsync -aHAX:0.5:rsync -aHAX $c/aufs/diff/ $other/theirs/"; do
        IFS=: read -r name goal cmd <<<"$tool"
        command -v "${name%% *}" >/dev/null || { echo "no ${name%% *} here: left out" >&2; continue; }
        ratio "copy of 100,000 small files to another disk : $name" "$goal" \
            --ours "$bin --root $c $migrate --mode copy --target $other/new --verify none" --after-ours "rm -rf $other/new; sync" \
            --theirs "$cmd" --after-theirs "rm -rf $other/theirs; sync"
    done
    rm -rf "$c"
    l=$dir/slarge
    make "$l" --layers 4 --files 64 --size 67108864
    ratio "copy of 4 GiB of large files to another disk : cp -a" 1.05 \
        --ours "$bin --root $l $migrate --mode copy --target $other/new --verify none" --after-ours "rm -rf $other/new; sync" \
        --theirs "cp -a $l/aufs/diff $other/theirs" --after-theirs "rm -rf $other/theirs; sync"
    rm -rf "$l"
fi
rm -rf "$s"

b=$dir/s1m
make "$b" --layers 40 --files 1000000 --big-first
ratio "one layer of 1 million files, 39 small : cp -al" "cpu/wall 1.6" \
    --ours "$bin --root $b $migrate --mode link --verify none" --after-ours "$(undo "$b")" \
    --theirs "cp -al $b/aufs/diff $dir/cpal" --after-theirs "rm -rf $dir/cpal"
t=$dir/s100k
make "$t" --layers 40 --files 100000
ratio "growth: 1,000,000 files : 100,000 files" 11 \
    --ours "$bin --root $b $migrate --mode link --verify none" --after-ours "$(undo "$b")" \
    --theirs "$bin --root $t $migrate --mode link --verify none" --after-theirs "$(undo "$t")"
rm -rf "$b"
# as many whiteouts in both
d=$dir/deep
make "$d" --layers 125 --files 100000 --whiteouts 4
f=$dir/flat
make "$f" --layers 5 --files 100000 --whiteouts 124
ratio "depth: 125 layers : 5 layers, 100,000 files" 1.0 \
    --ours "$bin --root $d $migrate --mode link --verify fast" --after-ours "$(undo "$d")" \
    --theirs "$bin --root $f $migrate --mode link --verify fast" --after-theirs "$(undo "$f")"
rm -rf "$d" "$f" "$t"
v=$dir/svfs
make "$v" --layers 20 --files 40000
# the flattened trees, as unaufs itself makes them: its names are what a cp -al of them makes, too
$bin --root "$v" $migrate --to vfs --mode link --verify none >/dev/null 2>&1
cp -al "$v/vfs/dir" "$dir/flattened"
$(undo "$v") >/dev/null
ratio "vfs with links, 20 layers flattened : cp -al of the flattened trees" 1.3 \
    --ours "$bin --root $v $migrate --to vfs --mode link --verify none" --after-ours "$(undo "$v")" \
    --theirs "cp -al $dir/flattened $dir/cpal" --after-theirs "rm -rf $dir/cpal"
rm -rf "$v" "$dir/flattened"
p=$dir/prepared
make "$p" --layers 40 --files 300000 --containers 10
# ext4 hands out no inode again that was freed within a minute, or five while that is not on the disk (recently_deleted in fs/ext4/ialloc.c): whoever
# makes a file walks past all that the round before has deleted. It knows them by its buffers only; no host deletes a store just before it migrates
settled="sync; echo 1 >/proc/sys/vm/drop_caches; find $p -printf %s; cat $p/.unaufs/journal.db; $bin --root $p plan -q"
ratio "downtime after --prepare : full run, 10 containers" 0.05 \
    --before-ours "$bin --root $p $migrate --prepare; $settled" --ours "$bin --root $p $migrate" --after-ours "$(undo "$p")" \
    --theirs "$bin --root $p $migrate" --after-theirs "$(undo "$p")"
