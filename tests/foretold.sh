#!/bin/bash
# What a plan and `status` foretell of Docker's next start is what Docker does: on roots with the remains of other drivers, with every
# daemon.json that such a host may have, and with broken containers. tests/judge/foretold.py has the table.
#
#   tests/foretold.sh                    the installed Docker, 26 (trixie) and the newest one (sid)
#   tests/foretold.sh host               one of them
#
# As root on Debian, with network for the first run. UNAUFS names the program; ROWS picks rows, by a part of their names.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
releases=("${@:-host}")
[ $# -gt 0 ] || releases=(host trixie sid)
work=$(mktemp -d "$(realpath "${TMPDIR:-/var/tmp}")/unaufs-foretold.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp "${UNAUFS:-$PWD/target/debug/unaufs}" "$work/unaufs"
export UNAUFS=$work/unaufs TMPDIR=$work
tar --xattrs --xattrs-include='*' --numeric-owner -xpf tests/stores/docker20-aufs.tar.xz -C "$work"
good=0 bad=0
for release in "${releases[@]}"; do
  for table in drivers containers; do
    echo "== $release: $table"
    if SEE=$work tests/judge/engine.sh "$release" python3 "$PWD/tests/judge/foretold.py" "$table" "$work/root"; then
      good=$((good + 1))
    else
      bad=$((bad + 1))
    fi
  done
done
[ $bad = 0 ] && echo "test result: ok. $good passed; 0 failed" && exit
echo "test result: FAILED. $good passed; $bad failed"
exit 1
