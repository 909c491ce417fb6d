#!/usr/bin/env bash
# Sets up and runs the tests, from a fresh Debian 12 machine on.
#
#   tests/run.sh                everything: lint, then the unit tests and scenarios in the asan, tsan and release builds
#   tests/run.sh PART...        only these: lint, unit, scenarios (of the release build), asan, tsan
#   tests/run.sh --no-install   does not look for missing packages (may stand before the parts)
#
# Every part goes on after a failure, so that one run tells all; the exit code is 0 only when every part has passed. The
# last lines are the summary of the last ctest run and, when a part has failed, which. Logs: build/test-logs/.
set -Euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
LOGS="$ROOT/build/test-logs"
LOG="$LOGS/setup.log"
# shellcheck source=packaging/lib.sh
. "$ROOT/packaging/lib.sh"
cd "$ROOT" || exit 1

# Checkouts share what ccache has compiled, wherever they lie.
export CCACHE_BASEDIR="$ROOT" CCACHE_NOHASHDIR=1
# Scenarios wait more than they compute, so one more than there are cores.
export CTEST_PARALLEL_LEVEL="${CTEST_PARALLEL_LEVEL:-$(($(nproc) + 1))}"
export PYTHONDONTWRITEBYTECODE=1

FAILED=()
say() { printf '%s==>%s %s %s(%d min %02d s)%s\n' "$BOLD" "$PLAIN" "$1" "$DIM" $((SECONDS / 60)) $((SECONDS % 60)) "$PLAIN"; }

# build PRESET: configures and builds all of it. What failed is printed; the whole output is in the log.
build() {
    local preset=$1 log="$LOGS/build-$1.log" jobs memory_gb
    say "build $preset"
    memory_gb=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
    jobs=$(nproc)
    [ "$memory_gb" -ge "$jobs" ] || jobs=$((memory_gb > 0 ? memory_gb : 1))
    if ! cmake --preset "$preset" -DSUPERVISOR_TESTS=ON >"$log" 2>&1; then
        tail -n 20 "$log"
    elif ! cmake --build --preset "$preset" -j "$jobs" >>"$log" 2>&1; then
        grep -A 20 -E '^FAILED|error:' "$log" | head -n 60
    else
        return 0
    fi
    printf '%serror:%s the %s build failed; the whole output is in %s\n' "$RED" "$PLAIN" "$preset" "$log"
    return 1
}

# run NAME PRESET CTEST_ARGUMENT...: builds, runs ctest, notes a failure.
run() {
    local name=$1 preset=$2
    shift 2
    if ! build "$preset"; then
        FAILED+=("$name (build)")
        return
    fi
    say "$name"
    ctest --preset "$preset" --output-log "$LOGS/$name.log" "$@" || FAILED+=("$name")
}

part() {
    case "$1" in
        lint) run lint release -L '^lint$' ;;
        unit) run unit release -L '^unit$' ;;
        scenarios) run scenarios release -L '^scenarios?$' ;;
        asan) run asan asan -LE '^(lint|bench)$' ;;
        tsan) run tsan tsan -LE '^(lint|bench)$' ;;
        # The release build's tests last: the longest list, and so the summary that closes a whole run.
        release) run release release -LE '^(lint|bench)$' ;;
    esac
}

install=yes
parts=()
for argument in "$@"; do
    case "$argument" in
        all) parts+=(lint asan tsan release) ;;
        lint | unit | scenarios | asan | tsan) parts+=("$argument") ;;
        --no-install) install=no ;;
        --help | -h)
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *)
            echo "unknown part: $argument (expected lint, unit, scenarios, asan, tsan or all)" >&2
            exit 2
            ;;
    esac
done
[ "${#parts[@]}" -gt 0 ] || parts=(lint asan tsan release)

mkdir -p "$LOGS"
if [ "$install" = yes ]; then
    say "packages"
    (install_packages build run test) || exit 1
fi
for name in "${parts[@]}"; do
    part "$name"
done
if [ "${#FAILED[@]}" -gt 0 ]; then
    printf '%sFAILED:%s %s; logs in %s\n' "$RED" "$PLAIN" "${FAILED[*]}" "$LOGS"
    exit 1
fi
