#!/bin/bash
# Builds what a release is made of: a static binary, .tar.gz, .deb, .rpm and SBOM for each target, and their checksums.
#
#   .release/build.sh [--out DIR] [TARGET...]
#
# TARGET: x86_64 (default), aarch64, armv7; `all` for the three. DIR: target/release-files. Runs on Debian; what is missing and how to get it
# is said before anything is built:
#
#   standard library   rustup target add aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf
#   C cross compilers  apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
#   package tools      apt-get install dpkg-dev rpm binutils
#   cargo tools        cargo install --locked cargo-auditable cargo-cyclonedx    (done by this script where they are missing)
#
# Every release is linked statically against glibc: it runs on kernels from 3.10 on, whatever libc the host has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

here=$PWD
build=${CARGO_TARGET_DIR:-$here/target}
out=$build/release-files
wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$(realpath -m "${2:?--out wants a folder}"); shift 2 ;;
    all) wanted=(x86_64 aarch64 armv7); shift ;;
    x86_64 | aarch64 | armv7) wanted+=("$1"); shift ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=(x86_64)

# --- short name -> Rust's target, C compiler, Debian's architecture, rpm's
declare -A triple=([x86_64]=x86_64-unknown-linux-gnu [aarch64]=aarch64-unknown-linux-gnu [armv7]=armv7-unknown-linux-gnueabihf)
declare -A cc=([x86_64]=x86_64-linux-gnu-gcc [aarch64]=aarch64-linux-gnu-gcc [armv7]=arm-linux-gnueabihf-gcc)
declare -A deb=([x86_64]=amd64 [aarch64]=arm64 [armv7]=armhf)
declare -A rpm=([x86_64]=x86_64 [aarch64]=aarch64 [armv7]=armv7hl)

# --- what is missing
missing=()
for arch in "${wanted[@]}"; do
  std=$(rustc --print target-libdir --target "${triple[$arch]}")
  compgen -G "$std/libstd-*.rlib" >/dev/null || missing+=("$arch: no standard library: rustup target add ${triple[$arch]}")
  command -v "${cc[$arch]}" >/dev/null || missing+=("$arch: no ${cc[$arch]}: see the head of this script")
done
for program in dpkg-deb rpmbuild readelf gzip; do
  command -v $program >/dev/null || missing+=("no $program: see the head of this script")
done
if [ ${#missing[@]} -gt 0 ]; then
  printf 'nothing was built: %s\n' "${missing[@]}" >&2
  exit 1
fi
command -v cargo-auditable >/dev/null || cargo install --locked --quiet cargo-auditable
command -v cargo-cyclonedx >/dev/null || cargo install --locked --quiet cargo-cyclonedx

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out"

# --- the binary: static, with the list of its crates inside (`cargo audit bin` reads it), without the paths of this machine
compile() {
  local arch=$1 t=${triple[$1]} upper
  upper=$(tr a-z- A-Z_ <<<"$t")
  export "CARGO_TARGET_${upper}_LINKER=${cc[$arch]}"
  export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static --remap-path-prefix=$here=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
  export "CC_${t//-/_}=${cc[$arch]}"
  CARGO_PROFILE_RELEASE_STRIP=symbols cargo auditable build --locked --release --target "$t" --bin unaufs
  local binary=$build/$t/release/unaufs
  if readelf -lW "$binary" | grep -q INTERP; then
    echo "$binary is not static" >&2
    return 1
  fi
  readelf -SW "$binary" | grep -q '\.dep-v0' || { echo "$binary does not hold the list of its crates" >&2; return 1; }
}

# --- the bill of materials
bill() {
  cargo cyclonedx --quiet --format json --spec-version 1.5 --target "${triple[$1]}" --override-filename unaufs.cdx
  # the path of this machine is nobody's business
  sed "s,$here,/unaufs,g" unaufs.cdx.json >"$2"
  rm unaufs.cdx.json
}

# --- the licences of what is linked in: they want to go with every copy
licences() {
  local home=${CARGO_HOME:-$HOME/.cargo} name version _ folder
  cargo tree --locked --edges normal --prefix none --format '{p}' --target "${triple[$1]}" | sort -u | while read -r name version _; do
    [ "$name" = unaufs ] && continue
    folder=$(compgen -G "$home/registry/src/*/$name-${version#v}" | head -1)
    find "$folder" -maxdepth 2 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) ! -name '*.rs' | sort | while read -r file; do
      printf '%s\n%s %s: %s\n%s\n\n' "$(printf '=%.0s' {1..80})" "$name" "${version#v}" "${file#"$folder"/}" "$(printf '=%.0s' {1..80})"
      cat "$file"
      echo
    done
  done
}

# --- everything that the packages hold; $1 the architecture, $2 the folder
stage() {
  local arch=$1 to=$2 doc=$2/usr/share/doc/unaufs
  install -Dm755 "$build/${triple[$arch]}/release/unaufs" "$to/usr/bin/unaufs"
  install -d "$to/usr/share/man/man8" "$doc/docs"
  cp "$work/manual"/* "$to/usr/share/man/man8/"
  gzip -9n "$to/usr/share/man/man8"/*
  install -Dm644 "$work/unaufs.bash" "$to/usr/share/bash-completion/completions/unaufs"
  install -Dm644 "$work/_unaufs" "$to/usr/share/zsh/site-functions/_unaufs"
  install -Dm644 "$work/unaufs.fish" "$to/usr/share/fish/vendor_completions.d/unaufs.fish"
  install -Dm644 .release/unaufs-migrate.service "$to/lib/systemd/system/unaufs-migrate.service"
  install -m644 README.md CHANGELOG.md "$doc/"
  install -m644 LICENSE "$doc/copyright"
  find docs -type f -printf '%P\n' | while read -r f; do install -Dm644 "docs/$f" "$doc/docs/$f"; done
  install -m644 "$work/$arch.cdx.json" "$doc/unaufs.cdx.json"
  licences "$arch" >"$doc/third-party-licences.txt"
  chmod 644 "$doc/third-party-licences.txt"
  (cd .fleet && find ansible -type f ! -name '*.pyc') | while read -r f; do install -Dm644 ".fleet/$f" "$to/usr/share/unaufs/$f"; done
  find "$to" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
}

tarball() {
  local arch=$1 tree=$2
  tar --sort=name --owner=0 --group=0 --numeric-owner -C "$tree" --transform "s,^\.,unaufs-$version-$arch," -cf - . \
    | gzip -9n >"$out/unaufs-$version-$arch.tar.gz"
}

summary='Move a dead Docker aufs store to overlay2, overlay, vfs or btrfs'
debian() {
  local arch=$1 tree=$work/$1.deb
  cp -a "$2" "$tree"
  mkdir "$tree/DEBIAN"
  (cd "$tree" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
  cat >"$tree/DEBIAN/control" <<CONTROL
Package: unaufs
Version: $version
Architecture: ${deb[$arch]}
Maintainer: The authors of unaufs <unaufs@localhost>
Installed-Size: $(du -sk --apparent-size "$2" | cut -f1)
Section: admin
Priority: optional
Description: $summary
 Reads a data root that Docker wrote with the aufs driver, with no daemon and
 no aufs in the kernel, and rewrites it beside the old one. Nothing is deleted
 unasked, and a rollback puts the old store back.
CONTROL
  # an enabled unit that is gone would keep Docker from starting
  cat >"$tree/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && command -v systemctl >/dev/null; then
  systemctl disable --quiet unaufs-migrate.service || true
fi
PRERM
  chmod 755 "$tree/DEBIAN/prerm"
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/unaufs_${version}_${deb[$arch]}.deb"
}

redhat() {
  local arch=$1 tree=$2 top=$work/$1.rpm
  mkdir -p "$top"
  cat >"$top/unaufs.spec" <<SPEC
%global __os_install_post %{nil}
%global debug_package %{nil}
%global _build_id_links none
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _buildhost localhost
Name: unaufs
Version: $version
Release: 1
Summary: $summary
License: MIT OR Apache-2.0
AutoReqProv: no
%description
Reads a data root that Docker wrote with the aufs driver, with no daemon and
no aufs in the kernel, and rewrites it beside the old one. Nothing is deleted
unasked, and a rollback puts the old store back.
%install
mkdir -p %{buildroot}
cp -a $tree/. %{buildroot}/
mkdir -p %{buildroot}/usr/lib
mv %{buildroot}/lib/systemd %{buildroot}/usr/lib/systemd
rmdir %{buildroot}/lib
%preun
if [ "\$1" = 0 ] && command -v systemctl >/dev/null; then systemctl disable --quiet unaufs-migrate.service || :; fi
%files
%defattr(-,root,root)
/usr
SPEC
  # the folders of the system belong to other packages; ours go with the last file
  sed -i '/^\/usr$/d' "$top/unaufs.spec"
  (cd "$tree" && find usr/share/unaufs usr/share/doc/unaufs -type d -printf '%%dir /%p\n') >>"$top/unaufs.spec"
  (cd "$tree" && find usr -type f -printf '/%p\n' && echo /usr/lib/systemd/system/unaufs-migrate.service) >>"$top/unaufs.spec"
  rpmbuild -bb --quiet --target "${rpm[$arch]}-linux" --define "_topdir $top" --define "_rpmdir $out" \
    --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$top/unaufs.spec"
}

# --- manual and completions come from the program itself
host=$(rustc -vV | sed -n 's/^host: //p')
for arch in "${wanted[@]}"; do compile "$arch"; done
own=$build/$host/release/unaufs
if [ ! -x "$own" ] || [[ " ${wanted[*]} " != *" ${host%%-*} "* ]]; then
  cargo build --locked --release
  own=$build/release/unaufs
fi
mkdir "$work/manual"
"$own" man "$work/manual"
"$own" completions bash >"$work/unaufs.bash"
"$own" completions zsh >"$work/_unaufs"
"$own" completions fish >"$work/unaufs.fish"

for arch in "${wanted[@]}"; do
  bill "$arch" "$work/$arch.cdx.json"
  stage "$arch" "$work/$arch"
  cp "$work/$arch.cdx.json" "$out/unaufs-$version-$arch.cdx.json"
  tarball "$arch" "$work/$arch"
  debian "$arch" "$work/$arch"
  redhat "$arch" "$work/$arch"
done
(cd "$out" && sha256sum -- unaufs* >SHA256SUMS)
echo "in $out:"
(cd "$out" && ls -1)
