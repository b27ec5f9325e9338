#!/bin/bash
# The Ansible collection against hosts with real stores and real dockerds: a blocker on one stops before the others are touched; a host whose Docker
# lacks something is rolled back, and no other; what ran before runs afterwards; check mode says what the real run does; a second run changes nothing.
#
#   tests/fleet/run.sh        UNAUFS names another binary than the one that cargo builds, UNAUFS_FAULTY one with fault points
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
  for program in /usr/bin/ansible-playbook /usr/sbin/dockerd /usr/bin/xz /usr/bin/jq; do
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
faulty=${UNAUFS_FAULTY:-$unaufs}
grep -aq 'dies before' "$faulty" || faulty=
export JUDGE=$home/tests/judge PATH=$FLEET/bin:$PATH HOME=$FLEET
export ANSIBLE_COLLECTIONS_PATH=$home/.fleet/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 ANSIBLE_RETRY_FILES_ENABLED=0 PYTHONDONTWRITEBYTECODE=1
export ANSIBLE_COLLECTIONS_ON_ANSIBLE_VERSION_MISMATCH=ignore
mkdir "$FLEET/bin"
ln -s "$here/systemctl" "$FLEET/bin/systemctl"

# --- a program that prints a migration's document twice
cat >"$FLEET/bin/twice" <<TWICE
#!/bin/bash
out=\$("$unaufs" "\$@"); rc=\$?
echo "\$out"
[[ " \$* " != *" migrate "* ]] || echo "\$out"
exit \$rc
TWICE
chmod +x "$FLEET/bin/twice"

host() { # name, archive
  mkdir "$FLEET/$1"
  tar --xattrs '--xattrs-include=*' --numeric-owner -xpf "$2" -C "$FLEET/$1"
  [ ! -d "$FLEET/$1/root" ] || mv "$FLEET/$1/root" "$FLEET/$1/docker"
  echo '{}' >"$FLEET/$1/daemon.json"
}
hosts=(nas1 nas2 nas3 broken twice html half undoing)
for h in "${hosts[@]}"; do host "$h" tests/stores/docker20-aufs.tar.xz; done
mkdir -p "$FLEET/plain/docker/overlay2"
# --- one with a container that Docker removes when it starts
config=("$FLEET"/nas1/docker/containers/*/hostconfig.json)
gone=$(basename "$(dirname "${config[0]}")")
sed -i 's/"AutoRemove":false/"AutoRemove":true/' "${config[0]}"
# --- one where something stays behind
layer=("$FLEET"/broken/docker/image/aufs/layerdb/mounts/*)
rm -r "$FLEET/broken/docker/aufs/diff/$(cat "${layer[0]}/mount-id")"
# --- what a power cut may leave: in the middle of the switch, in the middle of its undoing
freeze() { # name, command, fault point
  (UNAUFS_FAULT_AT=$3 "$faulty" --root "$FLEET/$1/docker" --progress none "$2" --yes || true) >"$FLEET/out" 2>&1
  grep -q 'dies before' "$FLEET/out" || { cat "$FLEET/out"; return 1; }
}
if [ -n "$faulty" ]; then
  for h in half undoing; do "$faulty" --root "$FLEET/$h/docker" --progress none migrate --yes --no-switch >/dev/null 2>&1; done
  at=1
  until [ "$("$unaufs" --root "$FLEET/half/docker" --json status | jq -r .state)" = switching ]; do
    freeze half migrate $at
    at=$((at + 1))
  done
  freeze half migrate 8
  "$faulty" --root "$FLEET/undoing/docker" --progress none migrate --yes >/dev/null 2>&1
  freeze undoing rollback 12
else
  echo "    no fault points: the hosts half and undoing are left out"
  hosts=(nas1 nas2 nas3 broken twice html)
fi
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
unaufs_docker_units=["docker-{{ inventory_hostname }}.socket","docker-{{ inventory_hostname }}.service"]
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
changes() { sed -nE 's/^([a-z0-9]+) +: .*(changed=[0-9]+).*(failed=[0-9]+).*/\1 \2 \3/p' "$FLEET/out"; }
state() { [ "$("$unaufs" --root "$FLEET/$1/docker" --json status | jq -r .state)" = "$2" ] || fail "$1 is not $2"; }
tree() { # names, kinds, modes, owners, sizes, times, targets, contents
  (cd "$1" && find "${@:2}" -printf '%p %y %m %U:%G %s %T@ %l\n' | sort && find "${@:2}" -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum
}
runs() { systemctl is-active "docker-$1.service" >/dev/null; }
declare -A before
for h in nas1 nas2 nas3; do before[$h]=$(tree "$FLEET/$h/docker" .); done
old_store() { (cd "$FLEET/$1/docker" && tree . aufs image/aufs; cat containers/*/config.v2.json | sha256sum); }
old=$(old_store nas3)
untouched() { for h in nas1 nas2 nas3; do [ "$(tree "$FLEET/$h/docker" .)" = "${before[$h]}" ] || fail "$h was touched"; done; }
ok() { echo "ok  $1"; }
three=nas1,nas2,nas3,plain

# --- one host has a blocker: nothing is touched anywhere, and check mode says the same
echo '{"storage-driver": "aufs"}' >"$FLEET/nas2/daemon.json"
play 2 plan --limit $three
recap nas2 'failed=1'
recap nas1 'failed=0'
play 2 migrate --limit $three --check
foretold=$(changes)
play 2 migrate --limit $three
[ "$(changes)" = "$foretold" ] || fail "check mode said: $foretold"
said 'blocked \(exit code 4\)'
said 'H07'
recap nas2 'failed=1'
untouched
[ ! -e "$FLEET/units" ] || fail "Docker was touched"
ok 'a blocker on one host stops everything before anything is touched'

# --- check mode says what would change
echo '{}' >"$FLEET/nas2/daemon.json"
play 0 migrate --limit nas1,nas2,plain --check --diff
said '^-.*"driver": "aufs"'
said '^\+.*"driver": "overlay2"'
recap plain 'changed=0 '
untouched
[ ! -e "$FLEET/units" ] || fail "Docker was touched by check mode"
foretold=$(changes)
play 0 migrate --limit nas1,nas2,plain
[ "$(changes)" = "$foretold" ] || fail "check mode said: $foretold"
[ ! -e "$FLEET/nas1/docker/containers/$gone" ] || fail "the --rm container is still there: the test shows nothing"
for h in nas1 nas2; do
  state $h switched
  runs $h || fail "the Docker of $h does not run"
done
ok 'check mode is a plan; a container that Docker removes is not missed'

# --- Docker ran before, and does not show what was migrated: rolled back, and it runs again
echo '--storage-driver vfs' >"$FLEET/nas3/arguments"
systemctl start docker-nas3.service
play 2 migrate --limit nas3
recap nas3 'failed=1 .*rescued=1'
said 'was rolled back, after: See that Docker has everything'
said 'Docker runs on vfs, expected overlay2; missing'
state nas3 undone
[ "$(old_store nas3)" = "$old" ] || fail "the old store of nas3 is not what it was"
runs nas3 || fail "the Docker of nas3 ran before and does not run now"
ok 'a host whose Docker lacks something is rolled back; its Docker runs again'

# --- a migration that fails leaves Docker running as before
echo '{"storage-driver": "aufs"}' >"$FLEET/nas3/daemon.json.new"
mv "$FLEET/nas3/daemon.json.new" "$FLEET/nas3/daemon.json"
play 2 migrate --limit nas3
runs nas3 || fail "the Docker of nas3 does not run"
state nas3 undone
echo '{}' >"$FLEET/nas3/daemon.json"
rm "$FLEET/nas3/arguments"
play 0 migrate --limit nas3 --check
foretold=$(changes)
play 0 migrate --limit nas3
[ "$(changes)" = "$foretold" ] || fail "check mode said: $foretold"
state nas3 switched
ok 'the host that failed is migrated when its Docker is right'

# --- a second run changes nothing
cp "$FLEET/units" "$FLEET/units.before"
play 0 migrate --limit $three --diff
for h in nas1 nas2 nas3 plain; do recap $h 'changed=0 .*failed=0'; done
cmp -s "$FLEET/units" "$FLEET/units.before" || fail "a second run touched Docker"
ok 'a second run changes nothing'

# --- what is no reason to roll back
play 0 migrate --limit broken -v
said '"exit_code": 3'
state broken switched
ok 'something stayed behind (exit code 3): a success'
play 2 migrate --limit twice -e "unaufs_executable=$FLEET/bin/twice"
said 'printed no JSON object'
said 'was not rolled back'
state twice switched
ok 'an answer that is not one JSON document: a failure, and the good migration stays'
# --- half-switched, and in the middle of a rollback
if [ -n "$faulty" ]; then
  state half switching
  state undoing undoing
  play 2 plan --limit undoing
  play 2 migrate --limit undoing --check
  foretold=$(changes)
  play 2 migrate --limit undoing
  [ "$(changes)" = "$foretold" ] || fail "check mode said: $foretold"
  said 'unaufs rollback'
  state undoing undoing
  ! runs undoing || fail "Docker runs on half a root"
  ok 'a rollback under way is a failure that names the way on'
  play 0 migrate --limit half --check
  foretold=$(changes)
  play 0 migrate --limit half
  [ "$(changes)" = "$foretold" ] || fail "check mode said: $foretold"
  state half switched
  runs half || fail "the Docker of half does not run"
  ok 'a switch under way is work: it is finished'
  play 0 rollback --limit undoing
  state undoing undone
  ok 'the rollback is finished when somebody asks for it'
fi

# --- a page that can't be written: the disk is full when it is
mkdir "$FLEET/full"
mount -t tmpfs -o size=4k tmpfs "$FLEET/full"
rc=0
UNAUFS_HTML=$FLEET/full/page.html ansible-playbook -i "$FLEET/inventory" unaufs.migrate.migrate --limit html >"$FLEET/out" 2>&1 || rc=$?
umount "$FLEET/full"
state html switched
[ $rc = 0 ] || fail "a page that cannot be written is a failure: $rc"
ok 'a page that cannot be written does not undo a migration'

# --- back
play 0 rollback --limit nas3
state nas3 undone
[ "$(old_store nas3)" = "$old" ] || fail "the old store of nas3 is not what it was"
cp "$FLEET/units" "$FLEET/units.before"
play 0 rollback --limit nas3,plain
recap nas3 'changed=0 '
cmp -s "$FLEET/units" "$FLEET/units.before" || fail "a rollback with nothing to do touched Docker"
ok 'rollback, twice'

# --- the old store goes only if somebody says so, and Docker runs on the new one
play 2 cleanup --limit nas1
said 'unaufs_cleanup_confirmed=true'
play 2 cleanup --limit nas1 -e unaufs_cleanup_confirmed=true -e unaufs_docker_socket="/tmp/$(basename "$FLEET").nas2/s"
said 'the old store is not deleted'
[ -d "$FLEET/nas1/docker/.unaufs/old" ] || fail "the old store was deleted unasked"
play 0 cleanup --limit nas1,plain -e unaufs_cleanup_confirmed=true --check
foretold=$(changes)
play 0 cleanup --limit nas1,plain -e unaufs_cleanup_confirmed=true
[ "$(changes)" = "$foretold" ] || fail "check mode said: $foretold"
state nas1 cleaned
[ ! -e "$FLEET/nas1/docker/.unaufs/old" ] || fail "the old store is still there"
play 0 cleanup --limit nas1 -e unaufs_cleanup_confirmed=true
recap nas1 'changed=0 '
ok 'cleanup, when confirmed, where Docker runs on the new store'

# --- the documentation of the module is sound
ansible-doc --type module unaufs.migrate.store >"$FLEET/out" 2>&1 || fail "ansible-doc"
said 'check_mode'
ok 'ansible-doc reads the module'
echo "took $SECONDS s"
