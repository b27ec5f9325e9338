#!/bin/bash
# Archives of odd roots, loaded by the installed Docker, by the newest one (sid) and by podman: each image and each container has the tree that
# the container itself saw, with owners, ACLs and capabilities. tests/judge/odd_roots.py makes the roots.
#
#   tests/exports.sh                  all
#   tests/exports.sh remapped         a root of a user namespace: where Docker had it, under another name, parked by a migration
#   tests/exports.sh deep             containers on images of 124 and of 125 layers, which is as many as Docker loads
#   tests/exports.sh broken           all containers, one of which is broken
#
# As root on Debian, with network for the first run. UNAUFS names the program.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export UNAUFS_LONG=1
judge=$PWD/tests/judge
unaufs=$(realpath "${UNAUFS:-target/debug/unaufs}")
work=$(mktemp -d "$(realpath "${TMPDIR:-/var/tmp}")/unaufs-exports.XXXXXX")
trap 'rm -rf "$work"' EXIT
good=0 bad=0

fine() { # WHAT COMMAND…
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    good=$((good + 1))
    printf '%-52s ok, %s\n' "$what" "$(tail -1 <<<"$said")"
  else
    bad=$((bad + 1))
    printf '%-52s FAILED\n%s\n' "$what" "$(tail -20 <<<"$said")"
  fi
}

# ROOT holds the metadata of the aufs root
dockers_load() { # WHAT ROOT TRUTH ARCHIVE
  local release
  for release in host sid; do
    fine "$1, Docker ($release)" env SEE="$work" "$judge/engine.sh" "$release" \
      python3 "$judge/archives.py" docker "$2" "$3" "$4" "$work/loaded" all
    rm -rf "$work/loaded"
  done
}

all_load() { # WHAT ROOT TRUTH ARCHIVE
  dockers_load "$@"
  fine "$1, podman" python3 "$judge/archives.py" podman "$2" "$3" "$4"
}

export_all() { # ROOT ARCHIVE EXIT-CODE OPTION…
  local root=$1 archive=$2 wanted=$3 code=0
  shift 3
  "$unaufs" --root "$root" export --all --container '*' -o "$archive" "$@" >"$work/said" 2>&1 || code=$?
  [ $code = "$wanted" ] && return
  bad=$((bad + 1))
  echo "export of $root: exit code $code, wanted $wanted"
  tail -5 "$work/said"
}

unpacked() {
  rm -rf "$work/root" "$work/truth" "$work"/*.tar
  tar --xattrs --xattrs-include='*' --numeric-owner -xpf tests/stores/docker20-aufs.tar.xz -C "$work"
}

remapped() {
  local home=$work/231072.231072
  unpacked
  python3 "$judge/odd_roots.py" remapped "$work/root" "$work/truth"
  mkdir "$work/plain"
  cp -a "$work/root/image" "$work/plain/image"
  export_all "$work/root" "$work/renamed.tar" 0
  mv "$work/root" "$home"
  export_all "$home" "$work/home.tar" 0
  "$unaufs" --root "$home" migrate --yes -q >/dev/null || { bad=$((bad + 1)); echo "migrate ended with $?"; }
  export_all "$home" "$work/parked.tar" 0 --driver aufs
  export_all "$home" "$work/new.tar" 0
  fine 'user namespace: the same under another name' cmp "$work/home.tar" "$work/renamed.tar"
  fine 'user namespace: the same where it is parked' cmp "$work/home.tar" "$work/parked.tar"
  all_load 'user namespace' "$work/plain" "$work/truth" "$work/home.tar"
  # podman would want the devices 0:0, which overlay2 can't hold
  dockers_load 'user namespace, the new store' "$work/plain" "$work/truth" "$work/new.tar"
  "$unaufs" --root "$home" export --driver aufs --container c-changes --format rootfs -o "$work/tree.tar" >/dev/null
  fine 'user namespace, a rootfs' python3 "$judge/archives.py" rootfs "$work/plain" "$work/truth" "$work/tree.tar" c-changes
  rm -rf "$home" "$work/plain"
}

deep() {
  local layers
  for layers in 124 125; do
    rm -rf "$work/root" "$work/truth"
    python3 "$judge/odd_roots.py" deep "$work/root" "$work/truth" $layers
    export_all "$work/root" "$work/deep.tar" 0
    all_load "a container on $layers layers" "$work/root" "$work/truth" "$work/deep.tar"
  done
}

broken() {
  local name
  unpacked
  name=$(python3 "$judge/odd_roots.py" broken "$work/root" "$work/truth")
  export_all "$work/root" "$work/rest.tar" 3
  fine 'one broken container is named' grep -q "$name" "$work/said"
  all_load 'all but a broken container' "$work/root" "$work/truth" "$work/rest.tar"
}

for part in "${@:-all}"; do
  case $part in
    all) remapped && deep && broken ;;
    remapped | deep | broken) $part ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
[ $bad = 0 ] && echo "test result: ok. $good passed; 0 failed" && exit
echo "test result: FAILED. $good passed; $bad failed"
exit 1
