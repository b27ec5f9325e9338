#!/bin/bash
# Builds a release: a static binary, .tar.gz, .deb, .rpm and SBOM for each target, and their checksums.
#
#   .release/build.sh [--out DIR] [--install-tools] [TARGET...]
#
# TARGET: x86_64 (default), aarch64, armv7; `all` for the three. DIR: target/release-files. Runs on Debian, and installs nothing unless asked;
# if something is missing, it says so before it builds anything:
#
#   standard library   rustup target add aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf
#   C cross compilers  apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
#   package tools      apt-get install dpkg-dev rpm binutils jq
#   cargo tools        --install-tools puts cargo-auditable and cargo-cyclonedx below target/release-tools, nowhere else
#
# SIGN=minisign:KEYFILE or SIGN=gpg:KEYID signs SHA256SUMS. MAINTAINER="Name <mail>" is the maintainer in the packages.
#
# Every release is linked statically against glibc: it runs on Linux 3.10 and later, whatever libc the host has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# --- pinned: what releases are built with
rust=1.95.0
declare -A tools=([cargo-auditable]=0.7.7 [cargo-cyclonedx]=0.5.9)

here=$PWD
build=${CARGO_TARGET_DIR:-$here/target}
out=$build/release-files
install_tools=no
wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$(realpath -m "${2:?--out needs a directory}"); shift 2 ;;
    --install-tools) install_tools=yes; shift ;;
    all) wanted=(x86_64 aarch64 armv7); shift ;;
    x86_64 | aarch64 | armv7) wanted+=("$1"); shift ;;
    *) sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=(x86_64)

# --- short name -> Rust's target, C compiler, C library's package, Debian's architecture, rpm's
declare -A triple=([x86_64]=x86_64-unknown-linux-gnu [aarch64]=aarch64-unknown-linux-gnu [armv7]=armv7-unknown-linux-gnueabihf)
declare -A cc=([x86_64]=x86_64-linux-gnu-gcc [aarch64]=aarch64-linux-gnu-gcc [armv7]=arm-linux-gnueabihf-gcc)
declare -A libc=([x86_64]=libc6-dev [aarch64]=libc6-dev-arm64-cross [armv7]=libc6-dev-armhf-cross)
declare -A deb=([x86_64]=amd64 [aarch64]=arm64 [armv7]=armhf)
declare -A rpm=([x86_64]=x86_64 [aarch64]=aarch64 [armv7]=armv7hl)

field() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml | head -1; }
version=$(field version)
homepage=$(field repository)
maintainer=${MAINTAINER:-unaufs authors <unaufs@users.noreply.github.com>}
summary='convert a Docker data root from aufs to overlay2, overlay, vfs or btrfs'
description=' Reads a data root that the aufs driver wrote, without Docker and without
 aufs in the kernel, and builds the new store next to the old one. Nothing
 is deleted unasked, and a rollback puts the old store back.'

# --- what is missing
if [ $install_tools = yes ]; then
  for tool in "${!tools[@]}"; do cargo install --locked --quiet --root "$build/release-tools" "$tool@${tools[$tool]}"; done
fi
PATH=$build/release-tools/bin:$PATH
have() { grep -q "^\"$1 ${tools[$1]} " "$build/release-tools/.crates.toml" 2>/dev/null; }
missing=()
for arch in "${wanted[@]}"; do
  std=$(rustc --print target-libdir --target "${triple[$arch]}")
  compgen -G "$std/libstd-*.rlib" >/dev/null || missing+=("$arch: no standard library: rustup target add ${triple[$arch]}")
  command -v "${cc[$arch]}" >/dev/null || missing+=("$arch: no ${cc[$arch]}: see the head of this script")
done
for program in dpkg-deb rpmbuild readelf gzip jq; do
  command -v $program >/dev/null || missing+=("no $program: see the head of this script")
done
for tool in "${!tools[@]}"; do
  have "$tool" || missing+=("no $tool ${tools[$tool]}: run again with --install-tools")
done
grep -q "^## $version" CHANGELOG.md || missing+=("CHANGELOG.md has no section for $version")
if [ ${#missing[@]} -gt 0 ]; then
  printf 'nothing was built: %s\n' "${missing[@]}" >&2
  exit 1
fi
[[ $(rustc --version) == "rustc $rust "* ]] || echo "note: releases are built with Rust $rust, this is $(rustc --version)" >&2

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

# --- the folder of a crate's source
crate() { compgen -G "${CARGO_HOME:-$HOME/.cargo}/registry/src/*/$1-$2" | head -1; }
crates() { # of one architecture: name version, a line each
  cargo tree --locked --edges normal --prefix none --format '{p}' --target "${triple[$1]}" | sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u
}

# --- what is linked in and is no crate: name, version, licence, a file with its text or a sentence, separated by tabs
linked() {
  local arch=$1 sqlite zstd
  sqlite=$(crate libsqlite3-sys "$(crates "$arch" | sed -n 's/^libsqlite3-sys //p')")
  zstd=$(crates "$arch" | sed -n 's/^zstd-sys .*zstd\.//p')
  printf '%s\t%s\t%s\t%s\n' \
    glibc "$(dpkg-query -W -f '${Version}' "${libc[$arch]}")" LGPL-2.1-or-later "/usr/share/doc/${libc[$arch]}/copyright" \
    libgcc "$("${cc[$arch]}" -dumpfullversion)" 'GPL-3.0-or-later WITH GCC-exception-3.1' "$(compgen -G '/usr/share/doc/gcc-*-base/copyright' | tail -1)" \
    rust-std "$(rustc --version | cut -d' ' -f2)" 'MIT OR Apache-2.0' 'Copyright (c) The Rust Project Contributors. LICENSE of unaufs has the texts of both licences.' \
    sqlite "$(sed -n 's/^#define SQLITE_VERSION  *"\(.*\)"/\1/p' "$sqlite/sqlite3/sqlite3.c" | head -1)" blessing 'In the public domain: the authors disclaim copyright (https://sqlite.org/copyright.html).' \
    zstd "$zstd" BSD-3-Clause "$(crate zstd-sys "$(crates "$arch" | sed -n 's/^zstd-sys //p')")/zstd/LICENSE"
}

# --- the bill of materials
bill() {
  cargo cyclonedx --quiet --format json --spec-version 1.5 --target "${triple[$1]}" --override-filename unaufs.cdx
  linked "$1" | jq -R 'split("\t") | {type: "library", name: .[0], version: .[1], licenses: [{expression: .[2]}], "bom-ref": "linked:\(.[0])@\(.[1])"}' \
    | jq -s . >"$work/linked.json"
  # without the path of this machine
  jq --slurpfile linked "$work/linked.json" '.components += $linked[0]' unaufs.cdx.json | sed "s,$here,/unaufs,g" >"$2"
  rm unaufs.cdx.json
}

# --- the licences of what is linked in: they go with every copy
licences() {
  local name version licence text folder
  echo "Everything that is linked into unaufs, with its licence. unaufs comes with its complete source and this build script, so it can be
linked again with another version of glibc, as the LGPL asks."
  linked "$1" | while IFS=$'\t' read -r name version licence text; do
    header "$name $version: $licence"
    if [ -e "$text" ]; then cat "$text"; else echo "$text"; fi
  done
  crates "$1" | while read -r name version; do
    [ "$name" = unaufs ] && continue
    folder=$(crate "$name" "$version")
    find "$folder" -maxdepth 2 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) ! -name '*.rs' | sort | while read -r text; do
      header "$name $version: ${text#"$folder"/}"
      cat "$text"
    done
  done
}
header() { printf '\n%s\n%s\n%s\n' "$(printf '=%.0s' {1..80})" "$1" "$(printf '=%.0s' {1..80})"; }

# --- what both kinds of package hold; $1 the architecture, $2 the folder
stage() {
  local arch=$1 to=$2 doc=$2/usr/share/doc/unaufs
  install -Dm755 "$build/${triple[$arch]}/release/unaufs" "$to/usr/bin/unaufs"
  install -d "$to/usr/share/man/man8" "$doc/docs"
  cp "$work/manual"/* "$to/usr/share/man/man8/"
  gzip -9n "$to/usr/share/man/man8"/*
  install -Dm644 "$work/unaufs.bash" "$to/usr/share/bash-completion/completions/unaufs"
  install -Dm644 "$work/unaufs.fish" "$to/usr/share/fish/vendor_completions.d/unaufs.fish"
  install -Dm755 .release/docker-start "$to/usr/lib/unaufs/docker-start"
  install -Dm644 .release/unaufs-migrate.service "$to/usr/lib/systemd/system/unaufs-migrate.service"
  install -Dm644 .release/docker.service.conf "$to/usr/lib/systemd/system/docker.service.d/unaufs.conf"
  install -m644 README.md "$doc/"
  find docs -type f -printf '%P\n' | while read -r f; do install -Dm644 "docs/$f" "$doc/docs/$f"; done
  install -m644 "$work/$arch.cdx.json" "$doc/unaufs.cdx.json"
  install -m644 "$work/$arch.licences" "$doc/third-party-licences.txt"
  (cd .fleet/ansible && find ansible_collections -type f ! -name '*.pyc') | while read -r f; do
    install -Dm644 ".fleet/ansible/$f" "$to/usr/share/ansible/collections/$f"
  done
}
dated() { find "$1" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +; }

# --- no tree to unpack at /: a folder to copy from
tarball() {
  local arch=$1 name=unaufs-$version-$1 tree
  tree=$work/tar/$name
  install -Dm755 "$build/${triple[$arch]}/release/unaufs" "$tree/unaufs"
  install -Dm644 -t "$tree/man" "$work/manual"/*
  install -Dm644 -t "$tree/completions" "$work/unaufs.bash" "$work/unaufs.fish" "$work/_unaufs"
  install -m644 README.md CHANGELOG.md LICENSE "$tree/"
  install -m644 "$work/$arch.licences" "$tree/third-party-licences.txt"
  dated "$tree"
  tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work/tar" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
}

debian() {
  local arch=$1 tree=$work/$1.deb doc=$work/$1.deb/usr/share/doc/unaufs
  cp -a "$2" "$tree"
  install -Dm644 "$work/_unaufs" "$tree/usr/share/zsh/vendor-completions/_unaufs"
  install -m644 .release/debian/copyright "$doc/copyright"
  install -Dm644 .release/debian/lintian-overrides "$tree/usr/share/lintian/overrides/unaufs"
  gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
  printf 'unaufs (%s-1) unstable; urgency=medium\n\n  * Release %s; changelog.gz has the changes.\n\n -- %s  %s\n' \
    "$version" "$version" "$maintainer" "$(LC_ALL=C date -uRd "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
  chmod 644 "$doc"/changelog*
  install -d "$tree/DEBIAN"
  install -m755 .release/debian/postinst .release/debian/postrm "$tree/DEBIAN/"
  (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
  cat >"$tree/DEBIAN/control" <<CONTROL
Package: unaufs
Version: $version-1
Architecture: ${deb[$arch]}
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$tree/usr" | cut -f1)
Pre-Depends: init-system-helpers (>= 1.54~)
Section: admin
Priority: optional
Homepage: $homepage
Description: $summary
$description
CONTROL
  dated "$tree"
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/unaufs_$version-1_${deb[$arch]}.deb"
}

redhat() {
  local arch=$1 tree=$work/$1.rpmtree top=$work/$1.rpm
  cp -a "$2" "$tree"
  install -Dm644 "$work/_unaufs" "$tree/usr/share/zsh/site-functions/_unaufs"
  install -Dm644 LICENSE "$tree/usr/share/licenses/unaufs/LICENSE"
  mv "$tree/usr/share/doc/unaufs/third-party-licences.txt" "$tree/usr/share/licenses/unaufs/"
  install -m644 CHANGELOG.md "$tree/usr/share/doc/unaufs/"
  dated "$tree"
  mkdir -p "$top"
  {
    sed -e "s|@VERSION@|$version|; s|@SUMMARY@|${summary^}|; s|@URL@|$homepage|; s|@TREE@|$tree|" .release/unaufs.spec
    # the folders of the system belong to other packages; ours go with the last file
    cd "$tree"
    find usr/lib/unaufs usr/share/doc/unaufs usr/share/licenses/unaufs usr/share/ansible/collections/ansible_collections/unaufs -type d -printf '%%dir /%p\n'
    find usr/share/licenses -type f -printf '%%license /%p\n'
    find usr/share/doc -type f -printf '%%doc /%p\n'
    find usr -type f ! -path 'usr/share/doc/*' ! -path 'usr/share/licenses/*' -printf '/%p\n'
  } >"$top/unaufs.spec"
  rpmbuild -bb --quiet --target "${rpm[$arch]}-linux" --define "_topdir $top" --define "_rpmdir $out" \
    --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$top/unaufs.spec"
}

sign() {
  case ${SIGN:-} in
    '') ;;
    minisign:*) minisign -S -s "${SIGN#minisign:}" -m "$out/SHA256SUMS" ;;
    gpg:*) gpg --batch --local-user "${SIGN#gpg:}" --armor --detach-sign "$out/SHA256SUMS" ;;
    *) echo "SIGN=$SIGN is neither minisign:KEYFILE nor gpg:KEYID" >&2; return 2 ;;
  esac
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
  licences "$arch" >"$work/$arch.licences"
  stage "$arch" "$work/$arch"
  cp "$work/$arch.cdx.json" "$out/unaufs-$version-$arch.cdx.json"
  tarball "$arch"
  debian "$arch" "$work/$arch"
  redhat "$arch" "$work/$arch"
done
(cd "$out" && sha256sum -- unaufs* >SHA256SUMS)
sign
echo "in $out:"
(cd "$out" && ls -1)
