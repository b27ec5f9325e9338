#!/bin/bash
# The long crash tests: run.sh [N]. N rounds of kill -9 at random instants (default 200) and half as many of stop signals; every fault point;
# 40 sizes of disk; 56 power cuts on each of two file systems; errors in every kind of system call. Needs root, some 16 GiB of memory or disk,
# and on two quiet cores about an hour. Ends with a table; its numbers are in docs/safety.md.
#   CRASH_ONLY=TEST    only tests whose name contains TEST
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-200}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target"
here=$(mktemp -d "$target/crash-run.XXXXXX")
image=$here/disk.img
clean() { umount "$here/disk" 2>/dev/null || true; rm -rf "$here" "$image"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP

# a file system with shared extents, so that copies of the store are cheap
if [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 16000000 ]; then
    image=$(mktemp /dev/shm/unaufs-crash.XXXXXX)
fi
truncate -s 14G "$image"
mkfs.xfs -q -f -m reflink=1 "$image"
mkdir "$here/disk"
mount -o loop "$image" "$here/disk"

# the program as it is released; the tests, and a program with fault points
cargo build --release --quiet --target-dir "$target"
export CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=$target/crash
# asked once instead of by each of some thousand runs; only a program with fault points listens
UNAUFS_FAULT_DOCKER=$(/usr/sbin/dockerd --version 2>/dev/null) && export UNAUFS_FAULT_DOCKER
export UNAUFS_LONG=1 UNAUFS_CRASH_ROUNDS=$rounds UNAUFS_CRASH_DIR=$here/disk RUST_BACKTRACE=0
status=0
crash() {
    cargo test --release --quiet --features fault-points --test crash "${CRASH_ONLY:-}" -- --nocapture "$@" 2>&1 | tee -a "$here/log" || status=1
}
UNAUFS_CRASH_BIN=$target/release/unaufs crash --test-threads=2 --skip points:: --skip effects:: --skip docker:: --skip power::without --skip elsewhere::killed
crash --test-threads=1 --skip random:: --skip signals:: --skip full:: --skip calls:: --skip power::power --skip elsewhere::full --skip elsewhere::what

echo
echo "| what | case | rounds | failures |"
echo "|---|---|---|---|"
sed -n 's/^.*crash-report: \(.*\)$/| \1 |/p' "$here/log"
sed -n 's/^.*\(without syncs: .*\)$/\1/p; s/^.*\(the longest time from .*\)$/\1/p' "$here/log"
rounds=$(sed -n 's/^.*crash-report: .* | \([0-9]*\) | 0$/\1/p' "$here/log" | awk '{ n += $1 } END { print n + 0 }')
failed=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$here/log")
echo "$rounds rounds, $failed tests failed"
exit $status
