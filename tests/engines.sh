#!/bin/bash
# Migrates real stores and gives them to the Dockers of other Debian releases, unpinned as a user's Docker starts; every container is
# started on each of them and on the Docker that is installed, with the same result.
#
#   tests/engines.sh                     every store on Docker 26 (trixie) and the newest one (sid)
#   tests/engines.sh small trixie        the smallest store, one release
#
# As root on Debian, with network for the first run. UNAUFS names the program.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
which=${1:-all}
shift || true
releases=("${@:-trixie}")
[ $# -gt 0 ] || releases=(trixie sid)
UNAUFS=${UNAUFS:-$PWD/target/debug/unaufs}
judge=$PWD/tests/judge
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$UNAUFS" "$work/unaufs"
export UNAUFS=$work/unaufs
bad=0
wrong() { echo "$*"; bad=$((bad + 1)); }

packed=(tests/stores/docker20-aufs.tar.xz)
[ "$which" = all ] && packed=(tests/stores/*.tar.xz)
for tar in "${packed[@]}"; do
  name=$(basename "$tar" .tar.xz)
  mkdir "$work/$name"
  tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$tar" -C "$work/$name"
  root=$work/$name/root truth=$work/$name/truth
  "$UNAUFS" --root "$root" migrate --yes -q || wrong "$name: migrate ended with $?"
  cp -a "$root" "$work/copy"
  python3 "$judge/session.py" starts "$work/copy" overlay2 >"$work/host.json" || wrong "$name: the installed Docker"
  rm -rf "$work/copy"
  for release in "${releases[@]}"; do
    for verb in starts docker live; do
      cp -a "$root" "$work/copy"
      case $verb in
        starts)
          SEE=$work "$judge/engine.sh" "$release" python3 "$judge/session.py" starts "$work/copy" overlay2 >"$work/got.json" \
            && diff "$work/host.json" "$work/got.json" || wrong "$name: containers start otherwise on $release"
          ;;
        docker)
          SEE=$work "$judge/engine.sh" "$release" python3 "$judge/judge.py" docker "$work/copy" overlay2 "$truth" || wrong "$name: $release"
          ;;
        live)
          SEE=$work "$judge/engine.sh" "$release" python3 "$judge/session.py" live "$work/copy" overlay2 demo/app:2 || wrong "$name: a session on $release"
          ;;
      esac
      rm -rf "$work/copy"
    done
  done
  rm -rf "${work:?}/$name"
done
[ $bad = 0 ] && echo "test result: ok. $((${#packed[@]} * ${#releases[@]} * 3)) passed; 0 failed" && exit
echo "test result: FAILED. 0 passed; $bad failed"
exit 1
