#!/bin/bash
# Runs everything that says whether unaufs is sound: format, lints, documentation, licences, all tests.
#
#   ./tests/run.sh            each kind of test; as root on Debian it installs what is missing
#   ./tests/run.sh --long     hours: every effect on the disk, all stores, the packages, minutes of fuzzing, every screen; before a release
#
# At its end it lists what is only in --long, and what could not run here. The last line is `N passed, N failed`; the exit code is 1 if
# something failed. UNAUFS_STORES may name a folder with more real stores.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
long=no
for a in "$@"; do
  case $a in
    --long) long=yes ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
# In a chroot / is no mount point: programs with mounts of their own (unshare --mount) fail, and `docker exec` enters the root of the mount
# namespace, which is the machine's. So the tests run in a mount namespace whose root is this one; /bin/sh is the machine's there
if [ "$(id -u)" = 0 ] && ! unshare --mount true 2>/dev/null && [ -z "${UNAUFS_OWN_ROOT:-}" ]; then
  export UNAUFS_OWN_ROOT=yes
  exec unshare --mount --propagation unchanged nsenter --mount=/proc/self/ns/mnt --wd=/ /bin/sh -c '
    here=$(pwd -P) && mount --make-rprivate / && mount --rbind "$here" "$here" && cd "$here" && pivot_root . . && umount -l . && cd / && exec "$@"
  ' sh "$PWD/tests/run.sh" "$@"
fi
logs=$(mktemp -d) || exit 1
disk=
at_the_end() {
  kill $(jobs -p) 2>/dev/null
  [ -z "$disk" ] || umount -l "$disk/at" "$disk"
  rm -rf "$logs"
}
trap at_the_end EXIT

# --- what the tests need: command -> Debian package
declare -A package=(
  [/usr/sbin/dockerd]=docker.io [/usr/bin/docker]=docker.io [/usr/bin/python3]=python3-minimal [/usr/bin/unshare]=util-linux
  [/usr/bin/xz]=xz-utils [/usr/bin/zstd]=zstd [/usr/bin/strace]=strace [/usr/bin/jq]=jq [/bin/busybox]=busybox-static [/usr/bin/setfattr]=attr
  [/usr/bin/setfacl]=acl [/sbin/setcap]=libcap2-bin [/sbin/mkfs.ext4]=e2fsprogs [/sbin/mkfs.btrfs]=btrfs-progs
  [/sbin/mkfs.xfs]=xfsprogs [/sbin/ip]=iproute2 [/usr/bin/cc]=gcc [/usr/bin/c++]=g++ [/usr/bin/podman]=podman [/usr/bin/skopeo]=skopeo
  [/usr/bin/umoci]=umoci [/usr/bin/crun]=crun [/usr/bin/conmon]=conmon [/usr/bin/newuidmap]=uidmap
  [/usr/bin/chromium]=chromium [/usr/bin/chattr]=e2fsprogs
  [/usr/bin/ansible-playbook]=ansible-core [/usr/bin/systemd-analyze]=systemd
)
missing=()
for program in "${!package[@]}"; do
  [ -e "$program" ] || missing+=("${package[$program]}")
done
# json, tarfile and hashlib are not in python3-minimal
/usr/bin/python3 -c 'import json, tarfile, hashlib' 2>/dev/null || missing+=(python3)
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
if [ $long = yes ]; then
  for pair in /usr/sbin/debootstrap=debootstrap /usr/bin/systemd-nspawn=systemd-container /usr/bin/lintian=lintian /usr/bin/rpmbuild=rpm; do
    [ -e "${pair%=*}" ] || missing+=("${pair#*=}")
  done
fi
install() {
  apt-get update -q || return 1
  # from Debian 13 on the client is a package of its own
  [ -e /usr/bin/docker ] || ! apt-cache show docker-cli >/dev/null 2>&1 || missing+=(docker-cli)
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing: ${missing[*]}"
    # docker.io starts its daemon when it is installed; the tests want none
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && policy= || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; }
    install >"$logs/apt" 2>&1 || { tail -5 "$logs/apt"; echo "could not install: ${missing[*]}"; }
    [ -n "$policy" ] && rm -f "$policy"
  else
    echo "missing: ${missing[*]} (as root on Debian this script installs them); some tests will not run"
  fi
fi
modprobe -q overlay 2>/dev/null || true

# --- one step: a name and a command; its output is shown only if it fails. Steps may run side by side, so each speaks once. A test that says
# `not run: REASON` is no test that has passed
step() {
  local name=$1 begin=$SECONDS log p f n rc=0; shift
  log=$(mktemp "$logs/step.XXXX")
  "$@" >"$log" 2>&1 || rc=$?
  p=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$log")
  f=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$log")
  # the tests that say so, each once; what is no test program says it for itself
  n=$(awk '/^---- .* ----$/ { test = $2 } /^not run: / && !seen[test]++ { n++ } END { print n + 0 }' "$log")
  [ $rc != 0 ] || [ "$p" != 0 ] || p=1
  [ $rc = 0 ] || [ "$f" != 0 ] || f=1
  p=$((p > n ? p - n : 0))
  {
    flock 9
    if [ $rc = 0 ]; then
      printf '%-38sok      %4d passed  %4d s\n' "$name" "$p" $((SECONDS - begin))
    else
      printf '%-38sFAILED  %4d failed  %4d s\n' "$name" "$f" $((SECONDS - begin))
      # what was not run is said, with the reasons of what failed
      grep -vE '^ +(Compiling|Downloaded|Downloading|Fresh)|^test .* \.\.\. ok$' "$log" | tail -120
    fi
    grep -h '^not run: ' "$log" | sort | uniq -c | sed 's/^/    /'
    echo "$p $f $n $name" >>"$logs/results"
  } 9>"$logs/speaks"
}

# --- several steps beside others. A group that does not come to its end is a failure: nobody else would say what it has not tried
declare -A group=()
beside() { # NAME FUNCTION
  { "$2" && echo "$1" >>"$logs/ended"; } &
  group[$1]=$!
}
ended() {
  local name
  for name in "${!group[@]}"; do
    wait "${group[$name]}"
    grep -qxF "$name" "$logs/ended" 2>/dev/null && continue
    echo "FAILED: the steps beside the others, '$name', did not come to their end"
    echo "0 1 0 $name" >>"$logs/results"
  done
  group=()
}
only_long=()

deny() {
  command -v cargo-deny >/dev/null || CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --quiet --debug cargo-deny || return 1
  cargo deny --config .config/deny.toml check licenses bans sources
}

# the unit, with /bin/true where the package puts the program
unit() {
  sed 's,/usr/lib/unaufs/docker-start,/bin/true,; /^Documentation=/d' .release/unaufs-migrate.service >"$logs/unaufs-migrate.service"
  local said
  said=$(systemd-analyze verify "$logs/unaufs-migrate.service" 2>&1) && [ -z "$said" ] || { echo "$said"; return 1; }
}

# an ext4 in memory, with one order of directories each time, where there is plenty: the tests make and delete some million files, and wait for each disk that they sync
if [ $long = no ] && [ "$(id -u)" = 0 ] && [ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -gt 12000000 ]; then
  mkdir "$logs/disk"
  # some tests run the program as another user
  chmod 711 "$logs"
  if mount -t tmpfs -o size=9g,mode=755 unaufs-tests "$logs/disk"; then
    disk=$logs/disk
    mkdir "$disk/at"
    if truncate -s 8G "$disk/ext4" && mkfs.ext4 -q -E hash_seed=6f3c2b1a-7d5e-4f90-8a1b-2c3d4e5f6071 "$disk/ext4" && mount -o loop,noatime "$disk/ext4" "$disk/at"; then
      export UNAUFS_TEST_DIR=$disk/at UNAUFS_CRASH_DIR=$disk/at TMPDIR=$disk/at
    fi
  fi
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
step 'format' cargo fmt --check
step 'format of the fuzz targets' cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
if [ $long = yes ] || command -v cargo-deny >/dev/null; then
  step 'licences, bans, sources' deny
else
  only_long+=('licences, bans, sources (cargo-deny is not installed)')
fi
# one build for all: the tests that end the process at every step want one that can do so, to the others it is the same
features=(--features fault-points)
# asked once instead of by each of some thousand runs
UNAUFS_FAULT_DOCKER=$(/usr/sbin/dockerd --version 2>/dev/null) && export UNAUFS_FAULT_DOCKER
# what is said depends on it: the same on every machine
docker20='Docker version 20.10.24, build 297e128'
# clippy's own compiler says what clippy says and compiles too: all of it is read once
export RUSTC_WORKSPACE_WRAPPER=clippy-driver RUSTFLAGS='-D warnings'
step 'build of the tests, and clippy' cargo test --locked --no-run "${features[@]}"
UNAUFS=$target/debug/unaufs
export UNAUFS
# tests wait too: for dockerds, mounts and syncs
export RUST_TEST_THREADS=$(($(nproc) * 2))

compiled() {
  # the tests are the same without fault points
  step 'clippy' cargo clippy --locked -- -D warnings
  step 'fuzz targets: they compile' env -u RUSTC_WORKSPACE_WRAPPER cargo check --locked --manifest-path tests/fuzz/Cargo.toml --target-dir "$target"
  RUSTDOCFLAGS='-D warnings' step 'documentation' cargo doc --locked --no-deps --document-private-items
}
# beside the tests, which wait for the disk much of their time; a real Docker judges in the tests
beside_the_tests() {
  step 'a root of a living Docker' env DRIVER=overlay2 tests/native_roots.sh small
  step 'a store on a Docker of today' tests/engines.sh small trixie
  step 'systemd unit' unit
  compiled
}
# of the crash program, what a change breaks most often; the whole of it is --long
crash_in_short=(killed_twice prepared docker:: elsewhere:: points::overlay2)
crash_beside_the_tests() {
  step 'kills and damage, a part' cargo test --locked --no-fail-fast --test crash "${features[@]}" -- --show-output "${crash_in_short[@]}"
}
if [ $long = no ]; then
  beside 'roots, engines, unit' beside_the_tests
  beside 'kills and damage' crash_beside_the_tests
  step 'tests' env UNAUFS_FAULT_DOCKER="$docker20" cargo test --locked --no-fail-fast --lib --bins --test it "${features[@]}" -- --show-output
  ended
  only_long+=(
    'fuzz targets, a minute each (tests/fuzz/run.sh 60)'
    'Ansible on real dockerds (tests/fleet/run.sh)'
    'signals, full disks, power cuts, random moments, an unreadable file, the points of overlay, vfs and btrfs and next to a filled store (cargo test --test crash --features fault-points)'
    'every effect on the disk, hundreds of kills, power cuts and full disks (tests/crash/run.sh)'
    'every store to every target in every mode, each judged by a Docker (tests/all_stores.sh)'
    'roots of a living Docker for all four drivers (tests/native_roots.sh)'
    'every store on every Docker of Debian (tests/engines.sh)'
    'what a plan foretells of Docker, on odd roots and with odd settings, on every Docker of Debian (tests/foretold.sh)'
    'exports of a user namespace, of 125 layers and of a broken container, loaded by two Dockers and podman (tests/exports.sh)'
    'the packages in a Debian without Rust, and under a live systemd (tests/package/run.sh, boot.sh)'
    'the Ansible collection, as Galaxy and its linter see it (tests/fleet/lint.sh)'
    'pages on all four screens; stacks copied on all targets; 200 random stacks; 10,000 exchanges (UNAUFS_LONG=1 cargo test)'
    'every damage in every state on overlay, vfs and btrfs too, and a layer that is gone there; cleanup after each case; 70,000 whiteouts; 2,000 containers; back and away with 3,000 levels (the same)'
    'Docker 1.7 to vfs and overlay; next to a store that Docker wrote, on each driver; podman, skopeo and umoci; cp and diff of a 1.9 store; ext4 and btrfs as ROOT; estimates on further stores (the same)'
  )
else
  # one after the other: each of these uses all that there is
  compiled
  step 'tests' env UNAUFS_FAULT_DOCKER="$docker20" UNAUFS_LONG=1 PROPTEST_CASES=200 cargo test --locked --no-fail-fast --lib --bins --test it "${features[@]}" -- --show-output
  step 'every effect on the disk' env -u UNAUFS tests/crash/run.sh
  step 'every store, every target, every mode' tests/all_stores.sh
  step 'roots of a living Docker' tests/native_roots.sh
  step 'every store on every Docker' tests/engines.sh
  step 'what a plan foretells of Docker' tests/foretold.sh
  step 'exports of odd roots' tests/exports.sh
  step 'systemd unit' unit
  step 'Ansible on real dockerds' tests/fleet/run.sh
  step 'Ansible, as Galaxy and its linter see it' tests/fleet/lint.sh
  step 'packages on Debian 12' tests/package/run.sh
  step 'packages on Debian 13' env SUITE=trixie tests/package/run.sh
  step 'packages under systemd' tests/package/boot.sh
  step 'fuzz targets' tests/fuzz/run.sh 60
fi

sed -n 's/^[0-9]* [1-9][0-9]* [0-9]* /failed: /p' "$logs/results"
[ ${#only_long[@]} = 0 ] || printf 'only in --long: %s\n' "${only_long[@]}"
awk '{ n += $3 } END { if (n) printf "%d not run, for the reasons above\n", n }' "$logs/results"
awk '{ passed += $1; failed += $2 } END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }' "$logs/results"
