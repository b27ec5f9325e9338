#!/bin/bash
# Every real store to every target in every mode: moved, judged by real mounts and a real Docker, and put back byte for byte.
#
#   tests/all_stores.sh            all stores: tests/stores and $UNAUFS_STORES; four stores take half an hour
#   tests/all_stores.sh small      the project's own store only
#   tests/all_stores.sh quick      that one, to each target in one mode, to two of them with --target
#   STORE=x TARGET=y MODE=z        only these
#   DOCKER=all, DOCKER=none        a real Docker judges every round, or none, and not only the first mode of each line below
#
# Needs root and what tests/run.sh installs. One line a round; the exit code is 1 if one failed. UNAUFS names another binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=$PWD
unaufs=${UNAUFS:-}
if [ -z "$unaufs" ]; then
  cargo build --locked --quiet
  unaufs=${CARGO_TARGET_DIR:-target}/debug/unaufs
fi
unaufs=$(realpath "$unaufs")
[ "$(id -u)" = 0 ] || { echo 'not run: it needs root'; [ -z "${CI:-}" ]; exit; }

# the modes of each target, and the file system on which it is tried; `away` builds the new root on another one with --target
rounds=(
  'overlay2 xfs  auto link clone copy' 'overlay2 ext4 auto' 'overlay2 btrfs auto'
  'overlay  xfs  auto link clone copy'
  'vfs      xfs  auto link clone copy'
  'btrfs    btrfs auto clone copy'
  'overlay2 away auto' 'overlay away link' 'vfs away clone' 'btrfs away copy'
)

if [ "${1:-}" = quick ]; then
  rounds=('overlay2 ext4 auto' 'overlay xfs link' 'vfs xfs clone' 'btrfs btrfs auto' 'overlay2 away auto' 'btrfs away copy')
fi

work=$(mktemp -d "$(realpath "${TMPDIR:-/var/tmp}")/unaufs-all.XXXXXX")
clean() {
  for fs in xfs ext4 btrfs; do
    if mountpoint -q "$work/$fs"; then umount "$work/$fs" || umount -l "$work/$fs"; fi
  done
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP
for fs in xfs ext4 btrfs; do
  truncate -s 3G "$work/$fs.img"
  "mkfs.$fs" -q "$work/$fs.img" >/dev/null 2>&1
  mkdir "$work/$fs"
  mount -o loop "$work/$fs.img" "$work/$fs"
done

# everything in a root but its own times: a state folder is made in it and removed
listing() {
  (cd "$1" && find . -mindepth 1 -maxdepth 1 -printf '%P\0' | LC_ALL=C sort -z \
    | tar --null -T - --format=posix --pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime --sort=name --numeric-owner \
      --xattrs --xattrs-include='*' -cf - 2>/dev/null | sha256sum)
}

unpack() { # ARCHIVE DIR
  rm -rf "$2"
  mkdir "$2"
  tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$1" -C "$2"
}

# exit code 3: the store holds something that its own Docker had half removed
run() { "$unaufs" --root "$root" "$@" >"$work/out" 2>&1 || { local rc=$?; [ $rc = 3 ] || { echo "exit code $rc: $*"; tail -5 "$work/out"; return 1; }; }; }
judge() { /usr/bin/python3 "$here/tests/judge/judge.py" "$@" >"$work/out" 2>&1 || { echo "judge $1:"; head -5 "$work/out"; return 1; }; }

round() { # ARCHIVE ROOT_PATH TRUTH TARGET FS MODE DOCKER
  local archive=$1 truth=$3 target=$4 fs=$5 mode=$6 docker=$7 to=() new before
  local home=$fs
  [ "$fs" = away ] && home=xfs
  unpack "$archive" "$work/$home/store"
  root=$work/$home/store/$2 new=$root
  [ -n "$truth" ] || truth=$work/$home/store/truth
  if [ "$fs" = away ]; then
    new=$work/$([ "$target" = btrfs ] && echo btrfs || echo ext4)/new
    to=(--target "$new")
  fi
  before=$(listing "$root")
  run migrate --to "$target" --mode "$mode" "${to[@]}" --yes || return 1
  run verify --level full "${to[@]}" || return 1
  judge views "$new" "$target" "$truth" || return 1
  [ "$fs" != away ] || [ "$before" = "$(listing "$root")" ] || { echo 'the old root was changed'; return 1; }
  run rollback --drop-new "${to[@]}" --yes || return 1
  [ "$before" = "$(listing "$root")" ] || { echo 'not byte for byte after the rollback'; return 1; }
  [ "$fs" != away ] || [ ! -e "$new" ] || { echo 'something is left of the new root'; return 1; }
  [ "$docker" = yes ] || return 0
  # a Docker writes into its root: on a migration of its own
  run migrate --to "$target" --mode "$mode" "${to[@]}" --yes --verify none || return 1
  judge docker "$new" "$target" "$truth" || return 1
  run rollback --drop-new "${to[@]}" --yes || return 1
}

stores=()
for archive in tests/stores/*.tar.xz; do
  name=$(basename "$archive" .tar.xz)
  stores+=("$name|$archive|root|")
done
if [ "${1:-}" = small ] || [ "${1:-}" = quick ]; then
  stores=("docker20-aufs|tests/stores/docker20-aufs.tar.xz|root|")
else
  for folder in ${UNAUFS_STORES:+"$UNAUFS_STORES"/*/}; do
    [ -f "$folder/root.path" ] || continue
    name=$(basename "$folder")
    [ -f "tests/stores/$name.tar.xz" ] || stores+=("$name|$folder/root.tar.xz|$(tr -d '\n' <"$folder/root.path")|$(realpath "$folder/truth")")
  done
fi

good=0 bad=0
for store in "${stores[@]}"; do
  IFS='|' read -r name archive path truth <<<"$store"
  case $name in *"${STORE:-}"*) ;; *) continue ;; esac
  for line in "${rounds[@]}"; do
    read -r target fs modes <<<"$line"
    [ "${TARGET:-$target}" = "$target" ] || continue
    docker=$([ "${DOCKER:-first}" = none ] && echo no || echo yes)
    for mode in $modes; do
      [ "${MODE:-$mode}" = "$mode" ] || continue
      begin=$SECONDS
      if why=$(round "$archive" "$path" "$truth" "$target" "$fs" "$mode" "$docker"); then
        good=$((good + 1)) why=ok
      else
        bad=$((bad + 1)) why="FAILED $why"
      fi
      [ "$docker" = no ] || why+=', with Docker'
      printf '%-26s %-9s %-6s %-6s %3d s  %s\n' "$name" "$target" "$fs" "$mode" $((SECONDS - begin)) "$why"
      [ "${DOCKER:-first}" = all ] || docker=no
    done
  done
done
echo "$good passed, $bad failed"
[ "$bad" = 0 ]
