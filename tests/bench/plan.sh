#!/bin/bash
# tests/bench/plan.sh [DIR]: `unaufs plan` against `find -printf %s`, on a store of FILES (default 1,000,000) files in 40 layers made for it.
# Both with a warm cache, RUNS (default 5) times in turn; then the memory that plan needed at most, which is to stay below 100 MiB. Needs some
# 5 GiB in DIR. `COUNT=1` counts system calls (strace) and instructions (valgrind) on a tenth of the files instead: those are the same whatever
# else the machine does. Not part of the tests: a clock never decides whether a test passes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$(mktemp -d /var/tmp/unaufs-plan.XXXXXX)}
files=${FILES:-1000000}
bin=${UNAUFS:-}
if [ -z "$bin" ]; then
    (cd "$here/../.." && cargo build --release --quiet)
    bin=${CARGO_TARGET_DIR:-$here/../../target}/release/unaufs
fi
mkdir -p "$dir"
trap 'rm -rf "$dir"' EXIT
store=$dir/store
if [ -n "${COUNT:-}" ]; then
    python3 "$here/make_store.py" "$store" --layers 40 --files $((files / 10))
    strace -f -c -o "$dir/calls" "$bin" --root "$store" plan -q --progress none --json >/dev/null
    head -14 "$dir/calls"
    valgrind --tool=callgrind --callgrind-out-file="$dir/callgrind" "$bin" --root "$store" -j 1 plan -q --progress none --json \
        >/dev/null 2>"$dir/valgrind" || true
    grep Collected "$dir/valgrind"
    exit
fi
python3 "$here/make_store.py" "$store" --layers 40 --files "$files"
echo "| what | unaufs | other | ratio | goal | cpu / wall | memory |"
echo "|---|---|---|---|---|---|---|"
python3 "$here/ratio.py" -n "${RUNS:-5}" "plan of $files files : find -printf %s" 1.0 \
    --ours "$bin --root $store plan -q --progress none" --theirs "find $store/aufs/diff -printf %s"
