#!/bin/bash
# The unit and the package under a live systemd: a Debian with Docker boots in a container (systemd-nspawn) on a real aufs store, again and again.
# Takes minutes and downloads a Debian; not part of tests/run.sh.
#
#   tests/package/boot.sh [DIR]     DIR: what .release/build.sh has made (default target/release-files)
#   UNAUFS_CHROOT=DIR               a Debian with systemd-sysv, dbus and docker.io; it is copied, not changed
#
# What it needs: apt-get install systemd-container debootstrap
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ "$(id -u)" = 0 ] || { echo "not run: it needs root (containers)"; exit 1; }
command -v systemd-nspawn >/dev/null || { echo "not run: no systemd-nspawn: apt-get install systemd-container"; exit 1; }
target=${CARGO_TARGET_DIR:-$PWD/target}
files=${1:-$target/release-files}

mkdir -p "$target"
work=$(mktemp -d "$target/boot.XXXX")
debian=$work/nas
nspawn= init=
finish() {
  if [ -n "$nspawn" ]; then
    { kill -KILL "$nspawn" && wait "$nspawn"; } 2>/dev/null || true
    sleep 1
  fi
  rm -rf "$work"
}
trap finish EXIT
if [ -n "${UNAUFS_CHROOT:-}" ]; then
  cp -a "$UNAUFS_CHROOT" "$debian"
else
  # Docker is configured by the first boot, not by the chroot
  debootstrap --variant=minbase --include=systemd-sysv,dbus,kmod,docker.io bookworm "$debian" >"$work/log" 2>&1 || { tail -5 "$work/log"; exit 1; }
fi
# the container's network is its own, and the host's modules for bridges may be missing
echo 'DOCKER_OPTS="--bridge=none --iptables=false --ip6tables=false"' >"$debian/etc/default/docker"
deb=("$files"/unaufs_*_amd64.deb)
cp "${deb[0]}" "$debian/root/unaufs.deb"
rm -rf "$debian/var/lib/docker" "$debian/etc/docker"
tar --xattrs '--xattrs-include=*' --numeric-owner -xpf tests/stores/docker20-aufs.tar.xz -C "$work"
mv "$work/root" "$debian/var/lib/docker"

ok() { echo "ok  $1"; }
fail() {
  echo "FAILED: $1"
  [ -z "$init" ] || inside journalctl --no-pager -b -u unaufs-migrate -u docker | tail -40
  exit 1
}
inside() { nsenter -t "$init" -a "$@"; }
# --- a boot, up to the point where systemd has started or given up everything
boot() {
  systemd-nspawn --quiet --register=no --keep-unit --private-network --capability=all --console=pipe -D "$debian" /lib/systemd/systemd \
    </dev/null >>"$work/console" 2>&1 &
  nspawn=$!
  local state=
  for _ in $(seq 150); do
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
  nspawn= init=
}
shows() { # unit, property, value
  local is
  is=$(inside systemctl show -p "$2" --value "$1")
  [[ $is == $3 ]] || fail "$1: $2 is '$is', not '$3'"
}
docker_has() {
  shows docker.service ActiveState active
  [ "$(inside docker info --format '{{.Driver}} {{.Images}} {{.Containers}}')" = "$1" ] \
    || fail "Docker has $(inside docker info --format '{{.Driver}} {{.Images}} {{.Containers}}'), not $1"
}
time_of() { inside systemctl show -p "$2" --value "$1"; }

# --- Docker is pinned to aufs: it blocks, and Docker does not start
mkdir "$debian/etc/docker"
echo '{"storage-driver": "aufs"}' >"$debian/etc/docker/daemon.json"
boot
inside dpkg -i /root/unaufs.deb >/dev/null
inside unaufs plan --json >"$work/plan.json" || true
want="overlay2 $(jq '[.images[]] | length' "$work/plan.json") $(jq '[.containers[]] | length' "$work/plan.json")"
inside systemctl --quiet enable unaufs-migrate.service
off
boot
shows unaufs-migrate.service ActiveState failed
shows unaufs-migrate.service ExecMainStatus 4
shows docker.service ActiveState inactive
grep -q H07 <<<"$(inside journalctl --no-pager -b -u unaufs-migrate)" || fail "the journal does not say why"
[ -d "$debian/var/lib/docker/aufs" ] && [ ! -e "$debian/var/lib/docker/overlay2" ] || fail "something was changed"
ok 'a blocker keeps Docker from starting; the journal says why'

# --- repaired: the next start of Docker migrates first
rm "$debian/etc/docker/daemon.json"
inside systemctl reset-failed unaufs-migrate.service docker.service docker.socket
inside systemctl start docker.service || fail "Docker does not start"
docker_has "$want"
shows unaufs-migrate.service ActiveState active
ok 'repaired, it migrates when Docker is started'

# --- back to aufs, and the boot does it all
inside systemctl stop docker.socket docker.service
inside unaufs rollback --yes -q >/dev/null
off
boot
docker_has "$want"
shows unaufs-migrate.service Result success
shows unaufs-migrate.service StatusText '?*'
[ "$(time_of unaufs-migrate.service ExecMainExitTimestampMonotonic)" -lt "$(time_of docker.service ExecMainStartTimestampMonotonic)" ] \
  || fail "Docker did not wait"
grep -q 'is migrated to overlay2' <<<"$(inside unaufs status)" || fail "status"
ok "a boot migrates, then starts Docker: $want"

# --- every later boot changes nothing
off
before=$(find "$debian/var/lib/docker/.unaufs" -printf '%p %T@ %s\n' | sort | sha256sum)
boot
docker_has "$want"
shows unaufs-migrate.service ConditionResult no
[ "$(find "$debian/var/lib/docker/.unaufs" -printf '%p %T@ %s\n' | sort | sha256sum)" = "$before" ] || fail "a second boot changed something"
ok 'the next boot changes nothing'

# --- the package goes while the unit is enabled
inside dpkg -r unaufs >/dev/null
[ -z "$(find "$debian/etc/systemd" -name 'unaufs*')" ] || fail "the package left a link to its unit"
off
boot
docker_has "$want"
off
ok 'removed while it was enabled: Docker starts'
echo "took $SECONDS s"
