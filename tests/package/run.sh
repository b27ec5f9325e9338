#!/bin/bash
# The packages, as a stranger meets them: a fresh Debian without Rust installs the .deb, plans and migrates a real store, reads the manual, removes
# the package. Takes minutes and downloads a Debian; not part of tests/run.sh.
#
#   tests/package/run.sh [DIR]      DIR: what .release/build.sh has made (default target/release-files; built if it is not there)
#   SUITE=trixie                    another Debian than bookworm
#   UNAUFS_CHROOT=DIR               a Debian that debootstrap has made; it is copied, not changed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ "$(id -u)" = 0 ] || { echo "not run: it needs root (chroot, mounts)"; exit 1; }
target=${CARGO_TARGET_DIR:-$PWD/target}
files=${1:-$target/release-files}
[ -e "$files/SHA256SUMS" ] || .release/build.sh --install-tools --out "$files"

mkdir -p "$target"
work=$(mktemp -d "$target/package.XXXX")
trap 'rm -rf "$work"' EXIT
debian=$work/debian
if [ -n "${UNAUFS_CHROOT:-}" ]; then
  cp -a "$UNAUFS_CHROOT" "$debian"
else
  debootstrap --variant=minbase --include=man-db "${SUITE:-bookworm}" "$debian" >"$work/log" 2>&1 || { tail -5 "$work/log"; exit 1; }
fi
inside() { unshare --mount --pid --fork --kill-child --mount-proc="$debian/proc" --propagation private chroot "$debian" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"; }
ok() { echo "ok  $1"; }
fail() { echo "FAILED: $1"; exit 1; }

(cd "$files" && sha256sum --quiet -c SHA256SUMS)
ok 'checksums'

# --- what was built
for t in "$files"/*.tar.gz; do
  list=$(tar -tf "$t")
  for f in unaufs README.md LICENSE CHANGELOG.md third-party-licences.txt man/unaufs.8 man/unaufs-rollback.8 completions/unaufs.bash completions/_unaufs; do
    grep -q "^unaufs-[^/]*/$f\$" <<<"$list" || fail "$t holds no $f"
  done
  ! grep -vE '^unaufs-[^/]*/' <<<"$list" || fail "$t holds something outside its folder"
  ! grep -E '/(usr|lib|etc)/' <<<"$list" || fail "$t holds a tree"
done
wanted='/usr/bin/unaufs
/usr/lib/systemd/system/docker.service.d/unaufs.conf
/usr/lib/systemd/system/unaufs-migrate.service
/usr/lib/unaufs/docker-start
/usr/share/ansible/collections/ansible_collections/unaufs/migrate/galaxy.yml
/usr/share/bash-completion/completions/unaufs
/usr/share/doc/unaufs/docs/guide.md
/usr/share/doc/unaufs/unaufs.cdx.json
/usr/share/man/man8/unaufs-rollback.8.gz'
holds() { # package, its files, more that are wanted
  local f
  for f in $wanted "${@:3}"; do grep -qx "$f" <<<"$2" || fail "$1 holds no $f"; done
  ! grep -v '^/usr' <<<"$2" || fail "$1 holds something outside /usr"
}
for d in "$files"/*.deb; do
  holds "$d" "$(dpkg-deb --fsys-tarfile "$d" | tar -t | sed -n 's,^\./\(.*[^/]\)$,/\1,p')" \
    /usr/share/zsh/vendor-completions/_unaufs /usr/share/doc/unaufs/copyright /usr/share/doc/unaufs/changelog.gz
  lintian --allow-root --pedantic --fail-on error,warning,pedantic,info "$d" || fail "lintian"
done
for r in "$files"/*.rpm; do
  rpm -qp --requires "$r" | grep -v '^rpmlib(\|^/bin/sh$' && fail "$r wants something"
  holds "$r" "$(rpm -qlp "$r")" /usr/share/zsh/site-functions/_unaufs
  grep -q /usr/share/licenses/unaufs/LICENSE <<<"$(rpm -qLp "$r")" || fail "$r has no licence"
  [ "$(rpm -qp --qf '%{URL}' "$r")" != '(none)' ] || fail "$r has no URL"
done
for b in "$files"/*.cdx.json; do
  for part in glibc libgcc rust-std sqlite zstd clap; do
    [ "$(jq --arg n $part '[.components[] | select(.name == $n and .version != "" and (.licenses | length) > 0)] | length' "$b")" -ge 1 ] || fail "$b lists no $part"
  done
done
ok 'packages hold what they should'
# a program for another processor runs under qemu-user, where that is installed
for arch in aarch64 armv7; do
  t=("$files"/unaufs-*-"$arch".tar.gz)
  [ -e "${t[0]}" ] || { echo "    no build for $arch"; continue; }
  qemu=$(command -v "qemu-${arch/armv7/arm}-static" || true)
  [ -n "$qemu" ] || { echo "    no qemu for $arch"; continue; }
  mkdir "$work/$arch"
  tar -xf "${t[0]}" -C "$work/$arch" --strip-components=1
  "$qemu" "$work/$arch/unaufs" demo >"$work/log" 2>&1 || { tail -20 "$work/log"; fail "demo on $arch"; }
  grep -q 'the same$' "$work/log" || fail "demo on $arch does not say that all is the same"
  ok "$arch: demo under $(basename "$qemu")"
done

# --- what systemd says of the unit, with the drop-in of Docker
units=$work/units
mkdir "$units"
sed 's,/usr/lib/unaufs/docker-start,/bin/true,' .release/unaufs-migrate.service >"$units/unaufs-migrate.service"
said=$(systemd-analyze verify --man=no "$units/unaufs-migrate.service" 2>&1) && [ -z "$said" ] || fail "systemd-analyze: $said"
ok 'lintian and systemd-analyze have nothing to say'

# --- a Debian without Rust
inside sh -c '! command -v cargo && ! command -v docker' >/dev/null || fail "this Debian is not fresh"
before=$(inside find /usr /etc -xdev -path /usr/share/info -prune -o -print | sort)
mkdir -p "$debian/var/lib/docker" "$debian/root"
tar --xattrs '--xattrs-include=*' --numeric-owner -xpf tests/stores/docker20-aufs.tar.xz -C "$work"
rmdir "$debian/var/lib/docker"
mv "$work/root" "$debian/var/lib/docker"
deb=("$files"/unaufs_*_amd64.deb)
cp "${deb[0]}" "$debian/root/unaufs.deb"
inside dpkg -i /root/unaufs.deb >"$work/log" 2>&1 || { cat "$work/log"; fail "dpkg -i"; }
ok "installed: $(inside unaufs --version)"
inside man -P cat unaufs-migrate >"$work/page" 2>&1
for words in 'WHEN TO USE IT' 'WHAT IT CHANGES' 'HOW TO UNDO IT' 'unaufs migrate nas.plan --yes'; do
  grep -q -- "$words" "$work/page" || { cat "$work/page"; fail "the manual does not hold '$words'"; }
done
ok 'man unaufs-migrate'
# shellcheck disable=SC2016 # for the other shell
inside bash -c '. /usr/share/bash-completion/completions/unaufs && COMP_WORDS=(unaufs ro) COMP_CWORD=1 && _unaufs unaufs ro unaufs && [ "${COMPREPLY[*]}" = rollback ]' \
  || fail "bash does not complete 'unaufs ro'"
ok 'bash completes'
inside unaufs plan >"$work/log" || { cat "$work/log"; fail "plan"; }
grep -q 'unaufs plan .*/var/lib/docker' "$work/log" || fail "the plan is of another root"
inside unaufs migrate --yes --progress none >"$work/log" || { cat "$work/log"; fail "migrate"; }
python3 tests/judge/judge.py views "$debian/var/lib/docker" overlay2 "$work/truth" || fail "the judge does not agree"
inside unaufs verify --progress none >"$work/log" || { cat "$work/log"; fail "verify"; }
ok 'plan, migrate, verify on a real store'

inside dpkg -P unaufs >"$work/log" 2>&1 || { cat "$work/log"; fail "dpkg -P"; }
after=$(inside find /usr /etc -xdev -path /usr/share/info -prune -o -print | sort)
left=$(comm -13 <(echo "$before") <(echo "$after"))
[ -z "$left" ] || fail "the package left: $left"
[ -d "$debian/var/lib/docker/.unaufs/old/aufs" ] || fail "the old store went with the package"
ok 'removed; the store is untouched by that'

# --- the .rpm, in the same place: what it installs is gone after it
r=("$files"/*.x86_64.rpm)
rpm --root "$debian" --initdb
# folders of other packages (zsh's, fish's) are not counted
listed() { inside find /usr -xdev -path /usr/lib/sysimage -prune -o \( ! -type d -o -name 'unaufs*' \) -print | sort; }
before=$(listed)
rpm --root "$debian" --nodeps -i "${r[0]}" >"$work/log" 2>&1 || { cat "$work/log"; fail "rpm -i"; }
grep -q '"state": "switched"' <<<"$(inside unaufs status --json)" || fail "the .rpm's program does not see the store"
rpm --root "$debian" -V --nodeps unaufs || fail "rpm -V"
rpm --root "$debian" --nodeps -e unaufs >"$work/log" 2>&1 || { cat "$work/log"; fail "rpm -e"; }
left=$(comm -13 <(echo "$before") <(listed))
[ -z "$left" ] || fail "the .rpm left: $left"
ok 'the .rpm, installed and removed'
