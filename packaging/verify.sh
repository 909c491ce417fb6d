#!/usr/bin/env bash
# Checks that what setup.sh has set up does what it should: the daemon, the shipped services, their ports, files and
# database. Looks only, unless --disrupt asks it to kill a service and see it come back. Exit code 0: all is well.
set -Euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
BIN="$ROOT/build/release/bin"
CONFIG="$ROOT/config/supervisor_config.json"
PIDS=/tmp/supervisor_pids  # as in the shipped configuration
LOGS=/tmp/supervisor_logs
RESTART_TIMEOUT_S=30
# shellcheck source=packaging/lib.sh
. "$ROOT/packaging/lib.sh"
unset SUPERVISOR_SOCKET

passed=0
failed=0
# check WHAT COMMAND...: runs it, counts it.
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        printf '%sok%s     %s\n' "$GREEN" "$PLAIN" "$what"
    else
        failed=$((failed + 1))
        printf '%sFAILED%s %s\n' "$RED" "$PLAIN" "$what"
        [ -z "$output" ] || printf '%s\n' "$output" | head -n 10 | sed 's/^/       /'
    fi
}

# field SERVICE KEY: from status --json.
field() {
    "$BIN/supervisorctl" --json status "$1" 2>/dev/null | json_get "$2"
}
is() { # is WHAT EXPECTED COMMAND...
    local what=$1 expected=$2 actual
    shift 2
    actual=$("$@")
    [ "$actual" = "$expected" ] || {
        echo "$what is '$actual' (expected '$expected')"
        return 1
    }
}
answers() { curl -sS -f --max-time 5 --retry 20 --retry-connrefused --retry-delay 1 --retry-max-time 20 "$1" | grep -q "$2"; }
refuses() { ! curl -s --max-time 2 -o /dev/null "$1"; }
pid_file_is_right() {
    local pid
    pid=$(field "$1" pid)
    is "$PIDS/$1.pid" "$pid" cat "$PIDS/$1.pid" && is "the process $pid" "$1" service_of "$pid"
}
# The demo services say their port on their command line; that tells them apart.
service_of() {
    case "$(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null)" in
        *"--port 8080"*) echo architect-prod ;;
        *"--port 8081"*) echo architect-qa ;;
        *"--port 5063"*) echo reading-app ;;
        *) echo "something else" ;;
    esac
}
log_is_written() { [ -s "$LOGS/$1.log" ] || { echo "$LOGS/$1.log is empty or missing"; return 1; }; }
config_file() { "$BIN/supervisorctl" --json version | json_get config_file; }
database() { "$BIN/supervisorctl" --json version | json_get database; }
query() { sqlite3 -readonly "$(database)" "$1"; }
comes_back() {
    local pid new deadline=$((SECONDS + RESTART_TIMEOUT_S))
    pid=$(field "$1" pid)
    kill -KILL "$pid" || return 1
    while [ "$SECONDS" -lt "$deadline" ]; do
        new=$(field "$1" pid)
        [ "$new" = "$pid" ] || [ "${new:-0}" = 0 ] || [ "$(field "$1" state)" != running ] || return 0
        sleep 0.1
    done
    echo "$1 was killed (pid $pid) and is $(field "$1" state) after $RESTART_TIMEOUT_S s"
    return 1
}

disrupt=no
case "${1:-}" in
    "") ;;
    --disrupt) disrupt=yes ;;
    *)
        echo "usage: packaging/verify.sh [--disrupt]   (--disrupt: kill architect-qa and see it come back)" >&2
        exit 2
        ;;
esac
[ -x "$BIN/supervisorctl" ] || die "the programs are not built yet" "packaging/setup.sh --auto"

check "the configuration is valid" "$BIN/supervisord" --check -c "$CONFIG"
check "the daemon runs" "$BIN/supervisord" --status -c "$CONFIG"
if [ "$failed" -gt 0 ]; then
    printf '\nStart it first: packaging/setup.sh --auto\n%d passed, %d failed\n' "$passed" "$failed"
    exit 1
fi
check "it runs with the shipped configuration" is config_file "$CONFIG" config_file
for service in architect-prod:8080 architect-qa:8081 reading-app:5063; do
    id=${service%:*}
    port=${service#*:}
    check "$id is running" is state running field "$id" state
    check "$id answers on port $port" answers "http://127.0.0.1:$port/health" "\"service\": \"$id\""
    check "$id: the pid file holds its pid" pid_file_is_right "$id"
    check "$id: its output is in the log" log_is_written "$id"
done
check "pharma is known and stopped" is state stopped field pharma state
check "nothing answers on pharma's port 7085" refuses http://127.0.0.1:7085/health
check "supervisorctl status exits 0" "$BIN/supervisorctl" status
check "supervisorctl health exits 0" "$BIN/supervisorctl" health
for table in supervisor_services supervisor_metrics supervisor_events; do
    check "the database has the table $table" is "count" 1 \
        query "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '$table'"
done
check "the database says what runs" is "running services" 3 \
    query "SELECT count(*) FROM supervisor_services WHERE state = 'running' AND id <> 'supervisor'"
check "the database holds the start of each" is "started services" 3 \
    query "SELECT count(DISTINCT service_id) FROM supervisor_events WHERE event_type = 'started'
           AND service_id IN ('architect-prod', 'architect-qa', 'reading-app')"
if [ "$disrupt" = yes ]; then
    check "architect-qa comes back after kill -9" comes_back architect-qa
    check "architect-qa answers again" answers http://127.0.0.1:8081/health '"status": "ok"'
fi

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
