#!/bin/bash
# `unaufs export` of roots that a real Docker wrote for overlay2, overlay, vfs and btrfs: the same layers, to the byte, as `docker save` of the
# same daemon gives, in an archive that a fresh dockerd, podman and skopeo take (tests/judge/native.py). `unaufs verify` finds such a root right.
#
#   tests/native_roots.sh          all four drivers, with the large root that the script LARGE makes, if it is named; ten minutes
#   tests/native_roots.sh small    overlay2 and btrfs, with a small root
#   DRIVER=x                       only this one
#
# Needs root and what tests/run.sh installs. One line a driver; the exit code is 1 if one failed. UNAUFS names another binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=$PWD
[ "$(id -u)" = 0 ] || { echo 'not run: it needs root'; [ -z "${CI:-}" ]; exit; }
for program in /usr/sbin/dockerd /usr/bin/docker /bin/busybox /usr/bin/podman /usr/bin/skopeo /sbin/mkfs.btrfs; do
  [ -e "$program" ] || { echo "not run: $program is missing; tests/run.sh installs it"; [ -z "${CI:-}" ]; exit; }
done
unaufs=${UNAUFS:-}
if [ -z "$unaufs" ]; then
  cargo build --locked --quiet
  unaufs=${CARGO_TARGET_DIR:-target}/debug/unaufs
fi
unaufs=$(realpath "$unaufs")

work=$(mktemp -d "$(realpath "${TMPDIR:-/var/tmp}")/unaufs-native.XXXXXX")
clean() {
  if mountpoint -q "$work/btrfs"; then umount "$work/btrfs" || umount -l "$work/btrfs"; fi
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

drivers=(overlay2 overlay vfs btrfs)
large=${LARGE:+$(realpath "$LARGE")}
if [ "${1:-}" = small ]; then
  drivers=(overlay2 btrfs) large=
elif [ -z "$large" ]; then
  echo "LARGE names no script: small roots only"
fi

round() { # DRIVER
  local driver=$1 root=$work/$1/root
  rm -rf "$work/keep"
  mkdir -p "$work/$driver"
  if [ "$driver" = btrfs ]; then
    truncate -s 3G "$work/btrfs.img"
    mkfs.btrfs -q "$work/btrfs.img" >/dev/null
    mount -o loop "$work/btrfs.img" "$work/btrfs"
  fi
  if [ -n "$large" ]; then
    bash "$large" "$root" "$driver" >"$work/out" 2>&1 || { echo 'make-store.sh fails:'; tail -5 "$work/out"; return 1; }
  else
    python3 "$here/tests/judge/native.py" make "$root" "$driver" >"$work/out" 2>&1 || { echo 'no root:'; tail -5 "$work/out"; return 1; }
  fi
  "$unaufs" --root "$root" verify --level full >"$work/out" 2>&1 || { echo "verify gives $?:"; tail -5 "$work/out"; return 1; }
  "$unaufs" --root "$root" export --all --container '*' -o "$work/archive.tar" >"$work/out" 2>&1 || { echo "export gives $?:"; tail -5 "$work/out"; return 1; }
  python3 "$here/tests/judge/native.py" judge "$root" "$driver" "$work/archive.tar" "$work/keep" >"$work/out" 2>&1 || { head -20 "$work/out"; return 1; }
  tail -1 "$work/out"
  rm -rf "$work/keep" "$work/archive.tar"
  [ "$driver" = btrfs ] || rm -rf "${work:?}/$driver"
}

good=0 bad=0
for driver in "${drivers[@]}"; do
  [ "${DRIVER:-$driver}" = "$driver" ] || continue
  begin=$SECONDS
  if said=$(round "$driver"); then
    good=$((good + 1)) said="ok, $said"
  else
    bad=$((bad + 1)) said="FAILED $said"
  fi
  printf '%-9s %4d s  %s\n' "$driver" $((SECONDS - begin)) "$said"
done
echo "$good passed, $bad failed"
[ "$bad" = 0 ] && [ "$good" -gt 0 ]
