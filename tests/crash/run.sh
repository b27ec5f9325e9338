#!/bin/bash
# The long crash tests: run.sh [N]. N rounds of kill -9 at random instants (default 200), every fault point, 40 sizes of disk, 54 power cuts
# on each of two file systems, errors in every system call. Needs root, some 10 GiB, and an hour or more. Ends with a table.
#   CRASH_ONLY=TEST    only tests whose name contains TEST
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-200}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
here=$(mktemp -d "$target/crash-run.XXXXXX")
here=$(realpath "$here")
clean() { umount "$here/disk" 2>/dev/null || true; rm -rf "$here"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP

# a file system with shared extents, so that clones are tested and copies of the store are cheap
image=$here/disk.img
if [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 16000000 ]; then
    image=$(mktemp /dev/shm/unaufs-crash.XXXXXX)
    clean() { umount "$here/disk" 2>/dev/null || true; rm -rf "$here" "$image"; }
fi
truncate -s 14G "$image"
mkfs.xfs -q -f -m reflink=1 "$image"
mkdir "$here/disk"
mount -o loop "$image" "$here/disk"

export UNAUFS_CRASH_LONG=1 UNAUFS_CRASH_ROUNDS=$rounds UNAUFS_CRASH_DIR=$here/disk RUST_BACKTRACE=0
cargo build --release --quiet
cp "$target/release/unaufs" "$here/unaufs"
status=0
# the released program; then a release build with fault points
UNAUFS_CRASH_BIN=$here/unaufs cargo test --release --quiet --test crash "${CRASH_ONLY:-}" -- --nocapture --test-threads=1 \
    2>&1 | tee -a "$here/log" || status=1
cargo test --release --quiet --features fault-points --test crash "${CRASH_ONLY:-}" -- --nocapture --test-threads=1 \
    --skip random:: --skip signals:: --skip full:: --skip calls:: --skip power::power 2>&1 | tee -a "$here/log" || status=1

echo
echo "| what | case | points | failures |"
echo "|---|---|---|---|"
sed -n 's/^.*crash-report: \(.*\)$/| \1 |/p' "$here/log"
sed -n 's/^\(without syncs: .*\)$/\1/p' "$here/log"
exit $status
