#!/bin/bash
# Runs a command with the Docker of another Debian release, as root, in namespaces of its own.
#
#   engine.sh trixie COMMAND…    Docker 26 (Debian 13)
#   engine.sh sid COMMAND…       the newest Docker that Debian has
#   engine.sh host COMMAND…      the Docker that is installed
#
# The packages are downloaded once, some 150 MB, and unpacked below $UNAUFS_ENGINES (/var/tmp/unaufs-engines); apt gets lists of its own, so
# the machine's own packages are not touched. COMMAND has the unpacked release as its root directory, not by chroot: `docker exec` enters the mount
# namespace, and must not find itself on the host. It sees the host's /dev, /proc, /sys and /tmp, this project, and each directory of $SEE.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=$1
shift
if [ "$release" = host ]; then exec "$@"; fi
all=${UNAUFS_ENGINES:-/var/tmp/unaufs-engines}
root=$all/$release

packages=(docker.io docker-cli docker-buildx containerd runc tini python3 iproute2 iptables mount util-linux procps bash coreutils mawk grep sed tar
  findutils diffutils gzip xz-utils busybox-static attr btrfs-progs e2fsprogs passwd uidmap hostname ca-certificates base-files base-passwd libc-bin
  debianutils perl-base)

mirror() {
  local found
  found=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 | tr -d ' ')
  echo "${found:-http://deb.debian.org/debian}"
}

download() {
  local apt=$all/apt-$release deb dir
  rm -rf "$apt" "$root"
  mkdir -p "$apt"/lists/partial "$apt"/archives/partial "$root"/usr/{bin,sbin,lib,lib64}
  : >"$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $release main" >"$apt/sources"
  local options=(-qq -o "Dir::State::Lists=$apt/lists" -o "Dir::State::Status=$apt/status" -o "Dir::Cache::Archives=$apt/archives"
    -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o "Dir::Etc::SourceList=$apt/sources" -o Dir::Etc::SourceParts=/dev/null
    -o Acquire::Languages=none -o Debug::NoLocking=true)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" -y --no-install-recommends --download-only install "${packages[@]}"
  # a release with one /usr for all
  for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
  for deb in "$apt"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --preserve-permissions --keep-directory-symlink -C "$root"
  done
  ln -sf mawk "$root/usr/bin/awk"
  rm -rf "$apt"
  touch "$root/.whole"
}

if [ "${ENGINE_STAGE:-}" != inside ]; then
  mkdir -p "$all"
  exec 8>"$all/$release.lock"
  flock 8
  [ -e "$root/.whole" ] || download >&2
  exec 8>&-
  ENGINE_STAGE=inside exec unshare --mount --net --pid --fork --kill-child=KILL --mount-proc --propagation private \
    bash "$here/engine.sh" "$release" "$@"
fi
unset ENGINE_STAGE
# in a chroot, even in one of a bind mount, the pivot below would leave the machine's root that of the namespace
if [ "$(stat -c %d:%i /)" != "$(nsenter --mount=/proc/self/ns/mnt stat -c %d:%i /)" ]; then
  echo "engine.sh: / is not the root of the mount namespace (a chroot?): docker exec would work on the machine's own files" >&2
  exit 1
fi
ip link set lo up
mount --bind "$root" "$root"
mkdir -p "$root"/{dev,proc,sys,tmp,run,was}
for dir in dev proc sys tmp; do mount --rbind "/$dir" "$root/$dir"; done
mount -t tmpfs run "$root/run"
for dir in "$(cd "$here/../.." && pwd)" ${SEE:-}; do
  mkdir -p "$root$dir"
  mount --rbind "$dir" "$root$dir"
done
cd "$root"
pivot_root . was
cd /
umount -l /was
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec "$@"
