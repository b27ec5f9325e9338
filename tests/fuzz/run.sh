#!/bin/bash
# Feeds the readers of the store with what a fuzzer thinks of.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]     each target for so long; all of them if none is named
#
# Seeds come from the real stores (seeds.sh); what the fuzzer adds to them is kept in corpus/ beside this script's build, or in
# UNAUFS_FUZZ_DIR. An input that breaks a target is left there in artifacts/TARGET and is the end of the run.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=${1:?$(sed -n '2,7s/^# \{0,1\}//p' "$0")}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
work=${UNAUFS_FUZZ_DIR:-$build}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd "$here/targets" && ls | sed 's/\.rs$//')

# coverage as `cargo fuzz` asks for it; no sanitizer: there is no unsafe code to sanitize, and the stable compiler does
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# for a look of seconds an optimised build would take longer than what it saves
profile=release
[ "$seconds" -ge 60 ] || profile=dev
cargo build --locked --quiet --profile $profile --manifest-path "$here/Cargo.toml" --target "$host" --target-dir "$build"
programs=$build/$host/$([ $profile = dev ] && echo debug || echo release)

"$here/seeds.sh" "$work/seeds"
for t in "${targets[@]}"; do
  mkdir -p "$work/corpus/$t" "$work/artifacts/$t" "$work/seeds/$t"
  # 512 KiB: a plan or a journal of a real store; memory and time of one input are limited too
  nice -n 19 "$programs/$t" "$work/corpus/$t" "$work/seeds/$t" -max_total_time="$seconds" -max_len=524288 \
    -rss_limit_mb=1024 -timeout=25 -artifact_prefix="$work/artifacts/$t/" -print_final_stats=1 >"$work/$t.log" 2>&1 \
    || { tail -40 "$work/$t.log"; echo "FAILED: $t; the input is in $work/artifacts/$t" >&2; exit 1; }
  awk -v t="$t" '/number_of_executed_units/ { n = $2 } /#[0-9]+.*cov:/ { for (i = 1; i < NF; i++) if ($i == "cov:") c = $(i + 1) }
    END { printf "%-14s %10d executions, %6d edges\n", t, n, c }' "$work/$t.log"
done
