#!/bin/bash
# Runs everything that says whether unaufs is sound: format, lints, documentation, licences, all tests.
#
#   ./tests/run.sh            everything; as root on Debian it installs what is missing
#   ./tests/run.sh --quick    without cargo deny, the fuzz targets and the tests that end the process at each step
#   ./tests/run.sh --long     also every store on every Docker that tests/engines.sh knows, not one store on one of them
#
# The last line is `N passed, N failed`; the exit code is 1 if something failed. UNAUFS_STORES may name a folder with more real stores.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
quick=no
engines=(small trixie)
for a in "$@"; do
  case $a in
    --quick) quick=yes ;;
    --long) engines=(all) ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
# in a chroot / is no mount point, and what starts with mounts of its own (unshare --mount) fails: then from a bind mount of all of it
if [ "$(id -u)" = 0 ] && ! unshare --mount true 2>/dev/null && [ -z "${UNAUFS_BOUND:-}" ]; then
  all=$(mktemp -d) || exit 1
  if mount --rbind / "$all" && mount --make-rprivate "$all"; then
    UNAUFS_BOUND=yes chroot "$all" "$PWD/tests/run.sh" "$@"
    rc=$?
    umount -l "$all" && rmdir "$all"
    exit $rc
  fi
  rmdir "$all"
fi
logs=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$logs"' EXIT

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
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing: ${missing[*]}"
    # docker.io starts its daemon when it is installed; the tests want none
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && policy= || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; }
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$logs/apt" 2>&1 \
      || { tail -5 "$logs/apt"; echo "could not install: ${missing[*]}"; }
    [ -n "$policy" ] && rm -f "$policy"
  else
    echo "missing: ${missing[*]} (as root on Debian this script installs them); some tests will not run"
  fi
fi
modprobe -q overlay 2>/dev/null || true

# --- one step: a name and a command; its output is shown only if it fails. Steps may run side by side, so each speaks once
step() {
  local name=$1 begin=$SECONDS log p f rc=0; shift
  log=$(mktemp "$logs/step.XXXX")
  "$@" >"$log" 2>&1 || rc=$?
  p=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$log")
  f=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$log")
  [ $rc != 0 ] || [ "$p" != 0 ] || p=1
  [ $rc = 0 ] || [ "$f" != 0 ] || f=1
  {
    flock 9
    if [ $rc = 0 ]; then
      printf '%-34sok      %4d passed  %4d s\n' "$name" "$p" $((SECONDS - begin))
    else
      printf '%-34sFAILED  %4d failed  %4d s\n' "$name" "$f" $((SECONDS - begin))
      # what was not run is said, with the reasons of what failed
      grep -vE '^ +(Compiling|Downloaded|Downloading|Fresh)|^test .* \.\.\. ok$' "$log" | tail -120
    fi
    grep -h '^not run: ' "$log" | sort | uniq -c | sed 's/^/    /'
    echo "$p $f $name" >>"$logs/results"
  } 9>"$logs/speaks"
}

deny() {
  command -v cargo-deny >/dev/null || CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --quiet --debug cargo-deny || return 1
  cargo deny --config .config/deny.toml check licenses bans sources
}

# the unit, with /bin/true where the package puts the program
unit() {
  sed 's,^ExecStart=/usr/bin/unaufs,ExecStart=/bin/true,; /^Documentation=/d' .release/unaufs-migrate.service >"$logs/unaufs-migrate.service"
  local said
  said=$(systemd-analyze verify "$logs/unaufs-migrate.service" 2>&1) && [ -z "$said" ] || { echo "$said"; return 1; }
}

# beside all else, as far as it leaves time: what is built for itself alone
if [ $quick = no ]; then
  {
    renice -n 10 $BASHPID >/dev/null
    step 'licences, bans, sources' deny
    # each reader of the store for a few seconds; tests/fuzz/run.sh SECONDS is the long form
    step 'fuzz targets' tests/fuzz/run.sh 3
  } &
fi
step 'format' cargo fmt --check
step 'format of the fuzz targets' cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
step 'clippy' cargo clippy --locked --all-targets -- -D warnings
step 'clippy, with fault points' cargo clippy --locked --all-targets --features fault-points -- -D warnings
RUSTDOCFLAGS='-D warnings' step 'documentation' cargo doc --locked --no-deps --document-private-items
# one build for all: the tests that end the process at every step want one that can do so, to the others it is the same
features=()
if [ $quick = no ]; then
  features=(--features fault-points)
  # asked once instead of by each of some thousand runs
  UNAUFS_FAULT_DOCKER=$(/usr/sbin/dockerd --version 2>/dev/null) && export UNAUFS_FAULT_DOCKER
fi
step 'build of the tests' cargo test --locked --no-run "${features[@]}"
UNAUFS=$(realpath "${CARGO_TARGET_DIR:-target}/debug/unaufs")
export UNAUFS
# beside the tests, which wait for the disk much of their time
{
  # a real Docker judges some of these in the tests; DOCKER=first and DOCKER=all do so here too
  [ $quick = no ] && step 'every target in every mode' env DOCKER=none tests/all_stores.sh small
  [ $quick = no ] && step 'roots of a living Docker' tests/native_roots.sh small
  [ $quick = no ] && step 'a Docker of today' tests/engines.sh "${engines[@]}"
  step 'systemd unit' unit
  step 'Ansible, three hosts' tests/fleet/run.sh
} &
step 'tests' cargo test --locked --no-fail-fast "${features[@]}" -- --show-output
wait

sed -n 's/^[0-9]* [1-9][0-9]* /failed: /p' "$logs/results"
awk '{ passed += $1; failed += $2 } END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }' "$logs/results"
