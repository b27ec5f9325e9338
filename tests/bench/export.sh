#!/bin/bash
# tests/bench/export.sh [DIR]: unaufs export against docker save and tar, on one overlay2 root that a real dockerd writes; prints a Markdown table
# of ratios. Needs root, docker.io and some 6 GiB in DIR. RUNS (default 5) runs in turn, after a warm-up. SCALE=100 makes the store a hundredth
# of its size, to try the script. Not part of the tests.
set -eu
if [ "${INSIDE:-}" != 1 ]; then
    INSIDE=1 exec unshare --mount --net --pid --fork --kill-child=KILL --mount-proc --propagation private bash "$0" "$@"
fi
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$(mktemp -d /var/tmp/unaufs-bench.XXXXXX)}
runs=${RUNS:-5}
bin=${UNAUFS:-}
if [ -z "$bin" ]; then
    (cd "$here/../.." && cargo build --release --quiet)
    bin=${CARGO_TARGET_DIR:-$here/../../target}/release/unaufs
fi
run=$(mktemp -d /tmp/ub.XXXXXX)
mkdir -p "$dir"
pid=
cleanup() {
    if [ -n "$pid" ]; then kill "$pid" && wait "$pid" || true; fi
    rm -rf "$dir" "$run"
}
trap cleanup EXIT
ip link set lo up 2>/dev/null || true
echo '{}' >"$run/daemon.json"
export DOCKER_CONFIG=$run/cli DOCKER_BUILDKIT=0
docker="/usr/bin/docker -H unix://$run/s"
/usr/sbin/dockerd --config-file "$run/daemon.json" --data-root "$dir/root" --exec-root "$run/x" --pidfile "$run/pid" -H "unix://$run/s" \
    --iptables=false --ip6tables=false --storage-driver overlay2 -l error >"$run/log" 2>&1 &
pid=$!
for _ in $(seq 300); do $docker version >/dev/null 2>&1 && break; sleep 0.1; done

# eight layers: four of 20,000 small files, four of 200 MiB; half of the bytes can be compressed
/usr/bin/python3 - "$dir/context" "${SCALE:-1}" <<'PY'
import os, random, sys
top, scale, r = sys.argv[1], int(sys.argv[2]), random.Random(1)
text = b"".join(b"line %d of a file that can be compressed\n" % i for i in range(2000))
for layer in range(8):
    for i in range(20000 // scale if layer < 4 else 20):
        d = "%s/l%d/d%d/d%d" % (top, layer, i % 40, i % 7)
        os.makedirs(d, exist_ok=True)
        size = 3000 if layer < 4 else (10 << 20) // scale
        with open("%s/f%d" % (d, i), "wb") as f:
            for _ in range(max(1, size >> 16)):
                part = min(size, 1 << 16) // 2
                f.write(r.randbytes(part) + (text * 2)[:part])
PY
{ echo "FROM scratch"; for i in 0 1 2 3 4 5 6 7; do echo "COPY l$i /l$i"; done; } >"$dir/context/Dockerfile"
$docker build -q -t bench:1 "$dir/context" >/dev/null
rm -rf "$dir/context"
ours="$bin --root $dir/root export bench:1 --progress none -q"
diffs=$(echo "$dir"/root/overlay2/*/diff)
ratio() { python3 "$here/ratio.py" -n "$runs" "$@"; }

echo "| what | unaufs | other | ratio | goal | cpu / wall | memory |"
echo "|---|---|---|---|---|---|---|"
ratio "export : docker save" 0.5 --ours "$ours -o $dir/a.tar" --theirs "$docker save -o $dir/b.tar bench:1" \
    --after-ours "rm $dir/a.tar; sync" --after-theirs "rm $dir/b.tar; sync"
ratio "export to a pipe : docker save to a pipe" 0.5 --ours "$ours -o - | cat >/dev/null" --theirs "$docker save bench:1 | cat >/dev/null"
ratio "export : tar cf of the layers' folders" 1.5 --ours "$ours -o $dir/a.tar" --theirs "tar cf $dir/b.tar $diffs" \
    --after-ours "rm $dir/a.tar; sync" --after-theirs "rm $dir/b.tar; sync"
ratio "export --compress gzip : docker save, gzip" 0.55 --ours "$ours --compress gzip -o - | cat >/dev/null" \
    --theirs "$docker save bench:1 | gzip >/dev/null"
if command -v pigz >/dev/null; then
    ratio "export --compress gzip : docker save, pigz" 1.0 --ours "$ours --compress gzip -o - | cat >/dev/null" \
        --theirs "$docker save bench:1 | pigz >/dev/null"
fi
