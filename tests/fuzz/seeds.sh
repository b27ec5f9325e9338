#!/bin/bash
# Seeds from the real stores: tests/fuzz/seeds.sh DIR fills DIR/TARGET with the files that Dockers wrote.
#
# Uses the stores in tests/stores and, where there are some, in UNAUFS_STORES. Plans and journals come from the unaufs in UNAUFS, if that is set.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?a folder}
[ ! -e "$out/done" ] || exit 0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$out"/{layers,layerdb,repositories,config_edit,graph_image,tar_split,linkgraph,view,plan,journal,tar_header,image_config,container_image,daemon_json,mountinfo}

# a copy of at most $1 bytes of each file, named by what is in it
take() {
  local limit=$1 target=$2 f; shift 2
  for f in "$@"; do
    if [ -f "$f" ] && [ "$(stat -c %s "$f")" -le "$limit" ]; then
      cp "$f" "$out/$target/$(sha256sum <"$f" | cut -c1-16)"
    fi
  done
}

shopt -s nullglob
n=0
for archive in "$here"/../stores/*.tar.xz "${UNAUFS_STORES:-/nonexistent}"/*/root.tar.xz; do
  n=$((n + 1))
  top=$tmp/$n
  mkdir "$top"
  # the metadata only: a layer's files are nobody's seeds
  tar -C "$top" -xf "$archive" --wildcards --no-same-owner --exclude='*/aufs/diff/*/*' --exclude='*/truth/*' 2>/dev/null || true
  root=$(dirname "$(find "$top" -type d -path '*/aufs/layers' | head -1)")/..
  take 4096 layers "$root"/aufs/layers/*
  take 65536 repositories "$root"/image/aufs/repositories.json "$root"/repositories-aufs
  take 65536 image_config "$root"/image/aufs/imagedb/content/sha256/*
  take 65536 container_image "$root"/containers/*/config.v2.json
  take 65536 config_edit "$root"/containers/*/config*.json "$root"/containers/*/hostconfig.json
  take 65536 graph_image "$root"/graph/*/json
  take 65536 tar_split "$root"/image/aufs/layerdb/sha256/*/tar-split.json.gz "$root"/graph/*/tar-data.json.gz
  take 131072 linkgraph "$root"/linkgraph.db
  for f in "$out"/tar_split/*; do
    gzip -dc "$f" 2>/dev/null | head -c 8192 >"$tmp/text" && take 8192 tar_split "$tmp/text"
  done
  for d in "$root"/image/aufs/layerdb/sha256/*; do
    { cat "$d/cache-id"; printf '\377'; cat "$d/diff"; printf '\377'; cat "$d/size"; [ ! -e "$d/parent" ] || { printf '\377'; cat "$d/parent"; }; } >"$tmp/text"
    take 4096 layerdb "$tmp/text"
  done
  if [ -n "${UNAUFS:-}" ] && [ "$(id -u)" = 0 ]; then
    # layers without their files: what is planned is small, but all of a plan is there
    mkdir -p "$root/aufs/diff"
    find "$root/aufs/layers" -type f -printf '%f\n' | while read -r id; do mkdir -p "$root/aufs/diff/$id"; done
    "$UNAUFS" --root "$root" plan --out "$tmp/plan.json" >/dev/null 2>&1 || true
    take 524288 plan "$tmp/plan.json"
    "$UNAUFS" --root "$root" migrate --yes --verify none --no-switch >/dev/null 2>&1 || true
    # the last byte says that all of it is the database
    [ -e "$root/.unaufs/journal.db" ] && { cat "$root/.unaufs/journal.db"; printf '\0'; } >"$tmp/text" && take 524288 journal "$tmp/text"
  fi
done
# steps of the view: a folder, a file in it, and above both kinds of marks
printf '\014\000\030\104\001\104\005\104' >"$out/view/marks"
printf '\014\300\030\004\005\004\011\300\022\004' >"$out/view/opaque"
# tars of each format, with names and links that need headers of their own
long=$(printf 'l%.0s' {1..150})
mkdir "$tmp/tar"
echo content >"$tmp/tar/file"
ln "$tmp/tar/file" "$tmp/tar/again"
ln -s "$long" "$tmp/tar/link"
echo x >"$tmp/tar/$long"
for format in v7 ustar gnu pax oldgnu; do
  tar --format=$format -C "$tmp/tar" -cf "$out/tar_header/$format" . 2>/dev/null || true
done
head -c 16384 /proc/self/mountinfo >"$out/mountinfo/here"
printf '25 1 8:1 / /a\\040b rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n' >"$out/mountinfo/blank"
printf '{"storage-driver":"aufs","data-root":"/srv","live-restore":true,"userns-remap":"default","features":{"containerd-snapshotter":true}}' >"$out/daemon_json/all"
printf 'dockerd --storage-driver=aufs -g /srv' >"$out/daemon_json/line"
touch "$out/done"
