#!/bin/bash
# tests/bench/verify.sh [DIR]: a full verification against the bytes per second of two sha256sum processes; prints rows of a Markdown table.
# Two rows: the old and the new store share their files, or have copies of their own. In both, sha256sum reads what unaufs has to read: the
# files of the new store, and for copies those of the old store too. Goal: a ratio of at most 1/0.9 = 1.11. Needs root and about 5 GiB in DIR;
# SIZE (default 2 GiB) makes it smaller. Not part of the tests: a clock never decides whether a test passes.
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
trap 'rm -rf "$dir"' EXIT
ratio() { python3 "$here/ratio.py" -n "$runs" "$@"; }

# two processes at a time, each with a part of the files
sums() { echo "find $* -type f -print0 | xargs -0 -n 64 -P 2 sha256sum >/dev/null"; }

echo "| what | unaufs | two sha256sum | ratio | goal | cpu / wall | memory |"
echo "|---|---|---|---|---|---|---|"
for size in 16777216 20000; do
    s=$dir/s
    python3 "$here/make_store.py" "$s" --layers 8 --files $((${SIZE:-2147483648} / size)) --size "$size" --digests
    for mode in link copy; do
        "$bin" --root "$s" migrate --to overlay2 --mode "$mode" --verify none --yes -q --progress none >/dev/null
        trees=$s/overlay2
        [ $mode = copy ] && trees="$trees $s/.unaufs/old/aufs/diff"
        ratio "verify full, mode $mode, files of $size bytes : sha256sum" 1.11 \
            --ours "$bin --root $s verify --level full -q --progress none" --theirs "$(sums "$trees")"
        "$bin" --root "$s" rollback --drop-new --yes -q --progress none >/dev/null
    done
    rm -rf "$s"
done
