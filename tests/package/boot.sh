#!/bin/bash
# The unit and the package under a live systemd: a Debian with Docker boots in a container (systemd-nspawn) on a real aufs store, again and again,
# in good hours and bad ones; then a power cut at each rename of a switch and of a rollback. Takes many minutes and downloads a Debian.
#
#   tests/package/boot.sh [DIR]     DIR: what .release/build.sh has made (default target/release-files)
#   SUITE=bookworm                  another Debian than trixie (bookworm: Docker 20.10, trixie: 26.1)
#   UNAUFS_CHROOT=DIR               a Debian with systemd-sysv, dbus, kmod, docker.io, docker-cli and jq; it is copied, not changed
#   UNAUFS_FAULTY=FILE              unaufs with fault points (default: built here)
#   POINTS=N                        only every N-th power cut
#
# What it needs: apt-get install systemd-container debootstrap jq
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ "$(id -u)" = 0 ] || { echo "not run: it needs root (containers)"; exit 1; }
command -v systemd-nspawn >/dev/null || { echo "not run: no systemd-nspawn: apt-get install systemd-container"; exit 1; }
target=${CARGO_TARGET_DIR:-$PWD/target}
files=${1:-$target/release-files}
suite=${SUITE:-trixie}
faulty=${UNAUFS_FAULTY:-}
if [ -z "$faulty" ]; then
  cargo build --locked --quiet --features fault-points --bin unaufs
  faulty=$target/debug/unaufs
fi

mkdir -p "$target"
work=$(mktemp -d "$target/boot.XXXX")
debian=$work/nas
nspawn='' init=''
finish() {
  if [ -n "$nspawn" ]; then
    # the first process of the container takes all others with it
    { kill -KILL $(pgrep -P "$nspawn") "$nspawn" && wait "$nspawn"; } 2>/dev/null || true
    sleep 2
  fi
  rm -rf "$work"
}
trap finish EXIT
if [ -n "${UNAUFS_CHROOT:-}" ]; then
  cp -a --reflink=auto "$UNAUFS_CHROOT" "$debian"
else
  # Docker is configured by the first boot, not by the chroot
  include=systemd-sysv,dbus,kmod,docker.io,jq
  [ "$suite" = bookworm ] || include+=,docker-cli
  debootstrap --variant=minbase --include=$include "$suite" "$debian" >"$work/log" 2>&1 || { tail -5 "$work/log"; exit 1; }
fi
# the container's network is its own, and the host's modules for bridges may be missing
echo 'DOCKER_OPTS="--bridge=none --iptables=false --ip6tables=false"' >"$debian/etc/default/docker"
deb=("$files"/unaufs_*_amd64.deb)
cp "${deb[0]}" "$debian/root/unaufs.deb"
rm -rf "$debian/var/lib/docker" "$debian/etc/docker"
mkdir "$debian/etc/docker"
tar --xattrs '--xattrs-include=*' --numeric-owner -xpf tests/stores/docker20-aufs.tar.xz -C "$work"
store=$work/root
lib=$debian/var/lib/docker

ok() { echo "ok  $1"; }
fail() {
  echo "FAILED: $1"
  [ -z "$init" ] || inside journalctl --no-pager -b -u unaufs-migrate -u docker | tail -40
  exit 1
}
inside() { nsenter -t "$init" -a "$@"; }
# --- a boot, up to the point where systemd has started or given up everything
boot() {
  UNIFIED_CGROUP_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit --private-network --capability=all --console=pipe \
    -D "$debian" /lib/systemd/systemd </dev/null >>"$work/console" 2>&1 &
  nspawn=$!
  local state=
  for _ in $(seq 300); do
    sleep 0.2
    init=$(pgrep -P "$nspawn" | head -1) || continue
    state=$(inside systemctl is-system-running 2>/dev/null) || true
    case $state in running | degraded) break ;; esac
    init=
  done
  [ -n "$init" ] || { init=$(pgrep -P "$nspawn" | head -1); inside systemctl list-jobs --no-pager; fail "it does not boot: '$state'"; }
  ! inside journalctl --no-pager -b | grep -i 'ordering cycle' || fail "the units wait for each other"
}
off() {
  inside systemctl --no-block poweroff
  wait "$nspawn" || true
  nspawn='' init=''
}
# --- the data root is a copy of this one
root() {
  rm -rf "$lib"
  cp -a --reflink=auto "$1" "$lib"
}
shows() { # unit, property, value
  local is
  is=$(inside systemctl show -p "$2" --value "$1")
  # shellcheck disable=SC2053 # a pattern
  [[ $is == $3 ]] || fail "$1: $2 is '$is', not '$3'"
}
docker_has() {
  shows docker.service ActiveState active
  [ "$(inside docker info --format '{{.Driver}} {{.Images}} {{.Containers}}')" = "$1" ] \
    || fail "Docker has $(inside docker info --format '{{.Driver}} {{.Images}} {{.Containers}}'), not $1"
}
docker_is_down() { # what `systemctl status docker` says, when systemd has given up
  for _ in $(seq 100); do
    case $(inside systemctl is-active docker.service) in active) fail "Docker runs" ;; failed | inactive) break ;; esac
    sleep 0.2
  done
  local said
  said=$(inside systemctl status --no-pager -l docker.service) || true
  grep -q "$1" <<<"$said" || { echo "$said"; fail "the status of docker.service does not say '$1'"; }
}
state() { inside unaufs status --json | jq -r "$1"; }
state_is() { [ "$(state .state)" = "$1" ] || fail "the state is $(state .state), not $1"; }
time_of() { inside systemctl show -p "$2" --value "$1"; }

# --- Docker is pinned to aufs: it blocks, and Docker does not start
root "$store"
echo '{"storage-driver": "aufs"}' >"$debian/etc/docker/daemon.json"
boot
inside systemctl stop docker.socket docker.service
inside dpkg -i /root/unaufs.deb >/dev/null
shows unaufs-migrate.service UnitFileState disabled
inside unaufs plan --json >"$work/plan.json" || true
want="overlay2 $(jq '[.images[]] | length' "$work/plan.json") $(jq '[.containers[]] | length' "$work/plan.json")"
inside systemctl --quiet enable unaufs-migrate.service
off
root "$store"
boot
shows unaufs-migrate.service ActiveState failed
shows unaufs-migrate.service ExecMainStatus 4
docker_is_down 'unaufs-migrate.service failed'
grep -q H07 <<<"$(inside journalctl --no-pager -b -u unaufs-migrate)" || fail "the journal does not say why"
[ -d "$lib/aufs" ] && [ ! -e "$lib/overlay2" ] || fail "something was changed"
ok 'a blocker keeps Docker from starting; the status of Docker says why'
for _ in 1 2 3 4 5 6 7 8; do inside timeout 5 docker version >/dev/null 2>&1 || true; sleep 1; done
[ "$(inside journalctl --no-pager -b -u unaufs-migrate | grep -c 'Starting unaufs-migrate.service')" = 1 ] || fail "more than one try in this boot"
docker_is_down 'unaufs-migrate.service failed'
ok 'clients do not start it again; the reason stays in sight'

# --- repaired by hand
rm "$debian/etc/docker/daemon.json"
inside unaufs migrate --yes -q >/dev/null
inside systemctl reset-failed
inside systemctl start docker.socket docker.service || fail "Docker does not start"
docker_has "$want"
ok 'repaired and migrated by hand, Docker starts'

# --- back to aufs: the next boot leaves it there
inside systemctl stop docker.socket docker.service
inside unaufs rollback --yes -q >/dev/null
off
boot
state_is undone
shows unaufs-migrate.service Result success
ok 'a boot does not undo a rollback'
off

# --- the boot does it all
root "$store"
boot
docker_has "$want"
shows unaufs-migrate.service Result success
shows unaufs-migrate.service StatusText '?*'
[ "$(time_of unaufs-migrate.service ExecMainExitTimestampMonotonic)" -lt "$(time_of docker.service ExecMainStartTimestampMonotonic)" ] \
  || fail "Docker did not wait"
state_is switched
ok "a boot migrates, then starts Docker: $want"
inside systemctl restart unaufs-migrate.service
[ "$(time_of docker.service NRestarts)" = 0 ] && [ "$(inside journalctl --no-pager -b -u docker | grep -c 'Started docker.service')" = 1 ] || fail "Docker was restarted"
ok 'restarting the unit leaves Docker alone'
off
before=$(find "$lib/.unaufs" -printf '%p %T@ %s\n' | sort | sha256sum)
boot
docker_has "$want"
[ "$(find "$lib/.unaufs" -printf '%p %T@ %s\n' | sort | sha256sum)" = "$before" ] || fail "a second boot changed something"
ok 'the next boot changes nothing'
off

# --- nothing to migrate
rm -rf "$lib"
mkdir -p "$lib/aufs"
boot
docker_has 'overlay2 0 0'
shows unaufs-migrate.service Result success
off
rm -rf "$lib"
boot
docker_has 'overlay2 0 0'
shows unaufs-migrate.service Result success
off
ok 'an empty aufs directory, or no data root: Docker starts'

# --- another data root
rm -rf "$lib"
cp -a "$store" "$debian/srv/docker"
echo '{"data-root": "/srv/docker"}' >"$debian/etc/docker/daemon.json"
echo UNAUFS_ROOT=/srv/docker >"$debian/etc/default/unaufs"
boot
docker_has "$want"
[ "$(inside docker info --format '{{.DockerRootDir}}')" = /srv/docker ] || fail "Docker is elsewhere"
off
rm -rf "$debian/srv/docker" "$debian/etc/docker/daemon.json" "$debian/etc/default/unaufs"
ok 'another data root, by /etc/default/unaufs'

# --- power cuts: roots as they are before each effect of a switch and of a rollback
cp -a "$store" "$work/built"
"$faulty" --root "$work/built" --progress none migrate --yes --no-switch >"$work/log" 2>&1 || { cat "$work/log"; fail "migrate --no-switch"; }
cp -a "$work/built" "$work/switched"
"$faulty" --root "$work/switched" --progress none migrate --yes >"$work/log" 2>&1 || { cat "$work/log"; fail "migrate"; }
cut_power() { # root, command, point: a root in $work/cut; false when the command ends before that point
  rm -rf "$work/cut"
  cp -a --reflink=auto "$1" "$work/cut"
  { UNAUFS_FAULT_AT=$3 "$faulty" --root "$work/cut" --progress none "$2" --yes || true; } >"$work/log" 2>&1
  grep -q "fault point $3: dies before" "$work/log"
}
# --- what a boot does, without the seconds of one
start_again() {
  inside systemctl stop docker.socket docker.service unaufs-migrate.service 2>/dev/null || true
  root "$work/cut"
  inside rm -f /run/unaufs/tried
  inside systemctl reset-failed
  inside systemctl start docker.socket
  inside systemctl start docker.service 2>/dev/null || true
}
# --- Docker runs on the whole store, or it is down and says why; then the way on leads to a whole store
whole_or_down() { # where it was cut
  if inside systemctl --quiet is-active docker.service; then
    if [ "$(state .state)" = switched ]; then docker_has "$want"; else [ "$(state .docker_may_start)" = true ] || fail "$1: Docker runs on half a root"; fi
    runs=$((runs + 1))
  else
    docker_is_down 'Docker must not start'
    down=$((down + 1))
  fi
}
cuts() { # root, command: every point of its renames. They come last: a copy's layers are built again before
  local point name all
  rm -rf "$work/cut"
  cp -a --reflink=auto "$1" "$work/cut"
  UNAUFS_FAULT_COUNT=$work/count "$faulty" --root "$work/cut" --progress none "$2" --yes >"$work/log" 2>&1
  read -r all _ <"$work/count"
  point=$((all > 240 ? all - 240 : 1))
  runs=0 down=0
  while cut_power "$1" "$2" $point; do
    name="$2, $(grep -o 'fault point.*' "$work/log")"
    # the disk is the same before a sync as before the effect after it
    if [[ $name == *sync* ]]; then
      point=$((point + 1))
      continue
    fi
    inside systemctl --quiet disable unaufs-migrate.service
    start_again
    whole_or_down "$name, unit disabled"
    inside systemctl --quiet enable unaufs-migrate.service
    start_again
    whole_or_down "$name, unit enabled"
    point=$((point + ${POINTS:-1}))
  done
  ok "power cut before each of $point effects of $2: Docker ran $runs times on a whole store, and was kept down $down times with the reason"
}
boot
cuts "$work/built" migrate
cuts "$work/switched" rollback
off
cut_power "$work/built" migrate 12
root "$work/cut"
boot
docker_has "$want"
ok 'a real boot after a power cut in the switch finishes it'
off
cut_power "$work/switched" rollback 12
root "$work/cut"
boot
docker_is_down 'Docker must not start'
inside unaufs rollback --yes -q >/dev/null
state_is undone
ok 'a real boot after a power cut in a rollback keeps Docker down; the rollback can be finished'
off

# --- the package goes while the unit is enabled
root "$work/switched"
boot
inside dpkg -r unaufs >/dev/null 2>&1
off
boot
docker_has "$want"
inside dpkg -P unaufs >/dev/null 2>&1
[ -z "$(find "$debian/etc/systemd" -name 'unaufs*')" ] || fail "the package left a link to its unit"
off
ok 'removed while it was enabled: Docker starts'
echo "took $SECONDS s"
