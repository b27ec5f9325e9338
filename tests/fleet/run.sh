#!/bin/bash
# The Ansible collection against hosts with real stores and real dockerds: a blocker on one stops before the others are touched; a host whose
# Docker does not show what was planned is rolled back; a second run changes nothing.
#
#   tests/fleet/run.sh        UNAUFS names another binary than the one that cargo builds
#
# The hosts are folders, connected to as local, in mount, network and process namespaces of their own: nothing stays.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=$(cd "$here/../.." && pwd)
cd "$home"

cannot() {
  echo "not run: $1"
  [ -z "${CI:-}" ] || exit 1
  exit 0
}
if [ -z "${FLEET:-}" ]; then
  [ "$(id -u)" = 0 ] || cannot "it needs root (namespaces, dockerd)"
  for program in /usr/bin/ansible-playbook /usr/sbin/dockerd /usr/bin/xz; do
    [ -e $program ] || cannot "$program is missing; tests/run.sh installs it"
  done
  [ -n "${UNAUFS:-}" ] || cargo build --locked --quiet --bin unaufs
  base=${UNAUFS_TEST_DIR:-${CARGO_TARGET_DIR:-$home/target}/tmp}
  mkdir -p "$base"
  FLEET=$(mktemp -d "$base/fleet.XXXX")
  export FLEET
  trap 'rm -rf "$FLEET" /tmp/"$(basename "$FLEET")".*' EXIT
  unshare --mount --net --pid --fork --kill-child=KILL --mount-proc --propagation private "$here/run.sh"
  exit
fi

ip link set lo up 2>/dev/null || true
unaufs=${UNAUFS:-$(realpath "${CARGO_TARGET_DIR:-$home/target}/debug/unaufs")}
export JUDGE=$home/tests/judge PATH=$FLEET/bin:$PATH HOME=$FLEET
export ANSIBLE_COLLECTIONS_PATH=$home/.fleet/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 ANSIBLE_RETRY_FILES_ENABLED=0 PYTHONDONTWRITEBYTECODE=1
mkdir "$FLEET/bin"
ln -s "$here/systemctl" "$FLEET/bin/systemctl"

hosts=(nas1 nas2 nas3)
for h in "${hosts[@]}"; do
  mkdir "$FLEET/$h"
  tar --xattrs '--xattrs-include=*' --numeric-owner -xpf tests/stores/docker20-aufs.tar.xz -C "$FLEET/$h" root
  mv "$FLEET/$h/root" "$FLEET/$h/docker"
  echo '{}' >"$FLEET/$h/daemon.json"
done
mkdir -p "$FLEET/plain/docker/overlay2"
cat >"$FLEET/inventory" <<INVENTORY
$(printf '%s\n' "${hosts[@]}" plain)
[all:vars]
ansible_connection=local
ansible_python_interpreter=/usr/bin/python3
unaufs_become=false
unaufs_executable=$unaufs
unaufs_root=$FLEET/{{ inventory_hostname }}/docker
unaufs_docker_config=$FLEET/{{ inventory_hostname }}/daemon.json
unaufs_docker_socket=/tmp/$(basename "$FLEET").{{ inventory_hostname }}/s
unaufs_docker_units=["docker-{{ inventory_hostname }}.service"]
INVENTORY

# --- what is looked at
play() { # exit code, playbook, options
  local code=$1 rc=0; shift
  ansible-playbook -i "$FLEET/inventory" "unaufs.migrate.$@" >"$FLEET/out" 2>&1 || rc=$?
  [ $rc = "$code" ] || fail "ansible-playbook $*: exit code $rc, not $code"
}
fail() {
  echo "FAILED: $1"
  tail -60 "$FLEET/out"
  for h in "${hosts[@]}"; do [ -e "$FLEET/$h/log" ] && tail -3 "$FLEET/$h/log"; done
  exit 1
}
said() { grep -qE -- "$1" "$FLEET/out" || fail "no '$1' in what Ansible says"; }
recap() { grep -qE "^$1 .*$2" "$FLEET/out" || fail "$1: no '$2' in the recap"; }
state() { [ "$("$unaufs" --root "$FLEET/$1/docker" --json status | sed -n 's/^ *"state": "\{0,1\}\([a-z]*\).*/\1/p')" = "$2" ] || fail "$1 is not $2"; }
tree() { # names, kinds, modes, owners, sizes, times, targets, contents
  (cd "$1" && find "${@:2}" -printf '%p %y %m %U:%G %s %T@ %l\n' | sort && find "${@:2}" -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum
}
declare -A before old
for h in "${hosts[@]}"; do
  before[$h]=$(tree "$FLEET/$h/docker" .)
done
old_store() { (cd "$FLEET/$1/docker" && tree . aufs image/aufs; cat containers/*/config.v2.json | sha256sum); }
for h in "${hosts[@]}"; do old[$h]=$(old_store "$h"); done
untouched() { for h in "$@"; do [ "$(tree "$FLEET/$h/docker" .)" = "${before[$h]}" ] || fail "$h was touched"; done; }
ok() { echo "ok  $1"; }

# --- one host has a blocker: nothing is touched anywhere
echo '{"storage-driver": "aufs"}' >"$FLEET/nas2/daemon.json"
play 2 plan
recap nas2 'failed=1'
recap nas1 'failed=0'
play 2 migrate
said 'pins the driver aufs'
recap nas2 'failed=1'
untouched "${hosts[@]}"
[ ! -e "$FLEET/units" ] || fail "Docker was touched"
ok 'a blocker on one host stops everything before anything is touched'

# --- check mode says what would change
echo '{}' >"$FLEET/nas2/daemon.json"
play 0 migrate --check --diff
said '^-.*"driver": "aufs"'
said '^\+.*"driver": "overlay2"'
recap nas1 'changed=2 '
recap plain 'changed=0 '
untouched "${hosts[@]}"
[ ! -e "$FLEET/units" ] || fail "Docker was touched by check mode"
ok 'check mode is a plan'

# --- one after the other; the third one's Docker does not show what was planned
echo '--storage-driver vfs' >"$FLEET/nas3/arguments"
play 2 migrate
recap nas1 'failed=0'
recap nas3 'failed=1 .*rescued=1'
said 'was rolled back, after: See that Docker has everything'
said 'Docker runs on vfs with'
state nas1 switched
state nas2 switched
state nas3 undone
[ "$(old_store nas3)" = "${old[nas3]}" ] || fail "the old store of nas3 is not what it was"
[ ! -e "$FLEET/nas3/docker/overlay2" ] || fail "nas3 still has a new store"
tail -1 "$FLEET/units" | grep -q 'stop nas3' || fail "the Docker of nas3 runs, and did not before"
ok 'a host that fails is rolled back, the ones before it stay migrated'

# --- a second run changes nothing
cp "$FLEET/units" "$FLEET/units.before"
play 0 migrate --limit nas1,nas2,plain --diff
for h in nas1 nas2 plain; do recap $h 'changed=0 .*failed=0'; done
cmp -s "$FLEET/units" "$FLEET/units.before" || fail "a second run touched Docker"
ok 'a second run changes nothing'

# --- the rest, when its Docker is right
rm "$FLEET/nas3/arguments"
play 0 migrate
recap nas1 'changed=0 '
state nas3 switched
ok 'the host that failed goes on'

# --- back, and there again
play 0 rollback --limit nas3
state nas3 undone
play 0 rollback --limit nas3
recap nas3 'changed=0 '
[ "$(old_store nas3)" = "${old[nas3]}" ] || fail "the old store of nas3 is not what it was"
ok 'rollback, twice'

# --- the old store goes only if somebody says so
play 2 cleanup --limit nas1
said 'unaufs_cleanup_confirmed=true'
[ -d "$FLEET/nas1/docker/.unaufs/old" ] || fail "the old store was deleted unasked"
play 0 cleanup --limit nas1 -e unaufs_cleanup_confirmed=true
state nas1 cleaned
[ ! -e "$FLEET/nas1/docker/.unaufs/old" ] || fail "the old store is still there"
play 0 cleanup --limit nas1 -e unaufs_cleanup_confirmed=true
recap nas1 'changed=0 '
ok 'cleanup, when confirmed'

# --- the documentation of the module is sound
ansible-doc --type module unaufs.migrate.store >"$FLEET/out" 2>&1 || fail "ansible-doc"
said 'check_mode'
ok 'ansible-doc reads the module'
echo "took $SECONDS s"
