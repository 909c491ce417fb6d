#!/usr/bin/env bash
# Sets up supervisord from this checkout and runs it with the shipped configuration.
#
#   packaging/setup.sh --auto      everything, from a fresh Debian 12 to running services, without a question
#   packaging/setup.sh             a menu of the same steps
#   packaging/setup.sh --help      the single steps
#
# Nothing is copied out of the checkout: the programs are build/release/bin/, the configuration is
# config/supervisor_config.json. Doing it again changes nothing that is already done. The output of apt, cmake and the
# like goes to build/setup.log.
set -Eeuo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
LOG="$ROOT/build/setup.log"
BIN="$ROOT/build/release/bin"
CONFIG="$ROOT/config/supervisor_config.json"
START_TIMEOUT_S=60
INDENT='    '
# shellcheck source=packaging/lib.sh
. "$ROOT/packaging/lib.sh"

# The daemon of this configuration is meant, whatever socket the caller's shell has chosen for supervisorctl.
unset SUPERVISOR_SOCKET

usage() {
    cat <<EOT
usage: packaging/setup.sh [--config FILE] [STEP]

Without a step: a menu.
  --auto          everything: packages, build, configuration, database, start
  --install-deps  install the Debian packages that are missing (packaging/packages.txt)
  --build         build the programs into build/release/bin/
  --init-db       check the configuration and create the database
  --start         start the daemon and its enabled services
  --stop          stop the daemon and all its services
  --restart       stop, then start
  --status        the table of services (exit code of supervisorctl status)
  --logs [TARGET] the last lines of the services' logs
  --help          this text
  --config FILE   another configuration than config/supervisor_config.json
EOT
}

step() { printf '%s==>%s %s\n' "$BOLD" "$PLAIN" "$1"; }
say() { printf '%s%s\n' "$INDENT" "$*"; }
done_() { printf '%s%sok%s %s\n' "$INDENT" "$GREEN" "$PLAIN" "$*"; }

on_error() {
    printf '%serror:%s line %s of setup.sh failed unexpectedly; the log is %s\n' "$RED" "$PLAIN" "$1" "$LOG" >&2
}
trap 'on_error "$LINENO"' ERR

need_programs() {
    if ! [ -x "$BIN/supervisord" ] || ! [ -x "$BIN/supervisorctl" ]; then
        die "the programs are not built yet ($BIN/supervisord)" "Build them first: packaging/setup.sh --build"
    fi
}

# supervisorctl, for the daemon of $CONFIG.
SOCKET_OPTION=(unknown)
ctl() {
    if [ "${SOCKET_OPTION[*]}" = unknown ]; then
        local socket
        socket=$(config_value "$CONFIG" global socket)
        case "$socket" in
            "") SOCKET_OPTION=() ;;
            /*) SOCKET_OPTION=(--socket "$socket") ;;
            *) SOCKET_OPTION=(--socket "$(dirname -- "$CONFIG")/$socket") ;;
        esac
    fi
    "$BIN/supervisorctl" "${SOCKET_OPTION[@]}" "$@"
}

is_running() { "$BIN/supervisord" --status -c "$CONFIG" >/dev/null 2>&1; }

# ------------------------------------------------------------------------------------------------------------- steps

install_deps() {
    step "Packages"
    install_packages build run
}

# As many compilers as there are cores, but each may take a gigabyte (gRPC's headers).
jobs_that_fit() {
    local cores memory_gb
    cores=$(nproc)
    memory_gb=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
    [ "$memory_gb" -ge 1 ] || memory_gb=1
    echo $((cores < memory_gb ? cores : memory_gb))
}

# Ninja's "[12/80] Building ..." as one line that counts up, on a terminal; nothing elsewhere.
show_progress() {
    if [ -t 1 ]; then
        awk '/^\[[0-9]+\/[0-9]+\]/ { printf "\r    %-12s", $1; fflush() } END { printf "\r%20s\r", "" }'
    else
        cat >/dev/null
    fi
}

build() {
    step "Build"
    cd "$ROOT"
    command -v cmake >/dev/null || die "cmake is missing" "Install the packages first: packaging/setup.sh --install-deps"
    local made_for
    made_for=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' build/release/CMakeCache.txt 2>/dev/null || true)
    if [ -n "$made_for" ] && ! [ "$made_for" -ef "$ROOT" ]; then
        die "build/release was made for another place, $made_for" "Remove it, then build again: rm -r '$ROOT/build/release'"
    fi
    if [ ! -f build/release/build.ninja ]; then
        cmake --preset release >>"$LOG" 2>&1 || {
            tail -n 15 "$LOG" >&2
            die "cmake could not configure the build (log: $LOG)" \
                "A missing package? packaging/setup.sh --install-deps"
        }
    fi
    local began=$SECONDS
    [ -x "$BIN/supervisord" ] || say "building: the first time takes several minutes (log: build/setup.log)"
    cmake --build --preset release -j "$(jobs_that_fit)" --target supervisord supervisorctl 2>&1 | tee -a "$LOG" |
        show_progress || {
        # Of this run alone: what stands after the last heading in the log.
        awk '/^== / { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$LOG" |
            grep -E '^FAILED|error:|Killed|No space' | head -n 15 >&2 || true
        die "the build failed; the whole output is in $LOG"
    }
    need_programs
    if [ "$(tail -n 1 "$LOG")" = "ninja: no work to do." ]; then
        done_ "$("$BIN/supervisord" --version | head -n 1) in build/release/bin/ is up to date"
    else
        done_ "$("$BIN/supervisord" --version | head -n 1) in build/release/bin/ (built in $((SECONDS - began)) s)"
    fi
}

check_config() {
    step "Configuration"
    need_programs
    [ -r "$CONFIG" ] || die "cannot read the configuration $CONFIG"
    "$BIN/supervisord" --check -c "$CONFIG" >>"$LOG" 2>&1 || {
        "$BIN/supervisord" --check -c "$CONFIG" >&2 || true
        die "the configuration has errors; nothing was started"
    }
    done_ "$CONFIG is valid"
}

init_db() {
    check_config
    step "Database"
    if is_running; then
        done_ "in use by the running daemon"
        return 0
    fi
    local output
    output=$("$BIN/supervisord" --init-db -c "$CONFIG" 2>&1) || {
        printf '%s\n' "$output" >&2
        die "the database could not be created" "May this user write there? root uses /var/lib/supervisord, others" \
            "\$XDG_STATE_HOME/supervisord (~/.local/state/supervisord); global.database names another place."
    }
    done_ "${output:-ready}"
}

# What would make the start fail: prints one line each. A port that is held by a service which an earlier daemon left
# behind is no trouble: the new daemon takes the service over.
start_obstacles() {
    python3 - "$CONFIG" <<'PY'
import json, os, socket, sys
config = json.load(open(sys.argv[1], encoding="utf-8"))
settings = config.get("global", {})

def directory_of(key, default):
    # What has ${NAME} in it is for the daemon to replace, and to complain of.
    return os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), settings.get(key, default))

def left_behind(service):
    try:
        pid = int(open(os.path.join(directory_of("pid_directory", "/tmp/supervisor_pids"), service + ".pid")).read())
        return os.path.isdir(f"/proc/{pid}")
    except (OSError, ValueError):
        return False

for key, default in (("log_directory", "/tmp/supervisor_logs"), ("pid_directory", "/tmp/supervisor_pids")):
    path = directory_of(key, default)
    if "${" not in path and os.path.isdir(path) and not os.access(path, os.W_OK):
        owner = os.stat(path).st_uid
        print(f"{path} (global.{key}) belongs to uid {owner} and is not writable for uid {os.getuid()}")
for service, settings_of in config.get("services", {}).items():
    port = settings_of.get("port")
    if not settings_of.get("enabled", True) or not isinstance(port, int) or left_behind(service):
        continue
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            print(f"port {port} of {service} cannot be used ({error.strerror}); who has it: ss -ltnp 'sport = :{port}'")
PY
}

say_if_other_daemon() {
    local file pid
    file=$(ctl --json version 2>/dev/null | json_get config_file)
    if [ -n "$file" ] && ! [ "$file" -ef "$CONFIG" ]; then
        say "${BOLD}note:${PLAIN} it runs with another configuration, $file, which stays in force"
        say "      to use $CONFIG: packaging/setup.sh --restart"
    fi
    pid=$(ctl --json version 2>/dev/null | json_get pid)
    case "$(readlink "/proc/${pid:-none}/exe" 2>/dev/null || true)" in
        *" (deleted)") say "${BOLD}note:${PLAIN} it is an older build than the one in build/release/bin/;" \
            "packaging/setup.sh --restart starts that one" ;;
    esac
}

start() {
    step "Start"
    need_programs
    if is_running; then
        done_ "the daemon runs already: nothing to do"
        say_if_other_daemon
        return 0
    fi
    local obstacles output
    obstacles=$(start_obstacles)
    if [ -n "$obstacles" ]; then
        while read -r line; do printf '%serror:%s %s\n' "$RED" "$PLAIN" "$line" >&2; done <<<"$obstacles"
        die "not started" "Remove what is in the way, or change it in $CONFIG"
    fi
    # Not through a pipe: the daemon would hold the pipe open for as long as it lives if it kept the descriptor.
    output="$ROOT/build/start.out"
    "$BIN/supervisord" --daemon -c "$CONFIG" >"$output" 2>&1 </dev/null || {
        cat "$output" >&2
        die "the daemon did not start" "Its own log says more (global.log_file; for root /var/log/supervisord/supervisord.log)"
    }
    cat "$output" >>"$LOG"
    wait_for_services
}

# Until every enabled service is running or has finished, which is what exit code 0 of `supervisorctl status` means; or
# until nothing is on its way any more, so that waiting would not help.
wait_for_services() {
    local began=$SECONDS code table
    while :; do
        code=0
        table=$(ctl --no-color status 2>&1) || code=$?
        [ "$code" -ne 0 ] || break
        if [ $((SECONDS - began)) -ge "$START_TIMEOUT_S" ] ||
            { [ $((SECONDS - began)) -ge 3 ] && ! awk '{ print $2 }' <<<"$table" | grep -qE '^(starting|backoff|stopping)$'; }; then
            printf '%s\n' "$table" >&2
            die "the daemon runs, but not every enabled service does" \
                "Why: build/release/bin/supervisorctl explain SERVICE" \
                "What it wrote: build/release/bin/supervisorctl logs SERVICE -n 50"
        fi
        sleep 0.1
    done
    done_ "the daemon runs, and every enabled service with it"
}

stop() {
    step "Stop"
    need_programs
    if ! is_running; then
        done_ "no daemon runs: nothing to do"
        return 0
    fi
    "$BIN/supervisord" --stop -c "$CONFIG" || die "the daemon could not be stopped (see above)"
    done_ "the daemon and all its services are gone"
}

restart() {
    check_config  # first: a mistake in it must not take down what runs
    stop
    start
}

status() {
    need_programs
    is_running || {
        say "no daemon runs (packaging/setup.sh --start)"
        return 3
    }
    ctl status
}

logs() {
    need_programs
    is_running || die "no daemon runs; the log files are in $(config_value "$CONFIG" global log_directory)"
    ctl logs "${1:-all}" -n 20
}

auto() {
    install_deps
    build
    init_db
    start
    step "Status"
    ctl status || true  # 3: something is stopped; the table says what, and start has waited for what it started
    cat <<EOT

Next, from $ROOT:
    build/release/bin/supervisorctl status             the table above
    build/release/bin/supervisorctl logs all -f        what the services write
    build/release/bin/supervisorctl start pharma       start the service that is not enabled
    curl http://127.0.0.1:8080/plan                    ask one of them something
    packaging/verify.sh                                check that all is as it should be
    packaging/setup.sh --stop                          stop everything
EOT
}

# -------------------------------------------------------------------------------------------------------------- menu

# Runs a step in a subshell, so that its failure ends the step and not the menu. (No `||`: it would switch off errexit.)
attempt() {
    set +e
    trap - ERR
    (
        set -e
        "$@"
    )
    local code=$?
    set -e
    trap 'on_error "$LINENO"' ERR
    [ "$code" -eq 0 ] || say "(ended with exit code $code)"
}

menu() {
    local choice target
    while :; do
        cat <<EOT

${BOLD}supervisord${PLAIN} ${DIM}$ROOT${PLAIN}
  1  full setup                5  stop
  2  install dependencies      6  restart
  3  initialise the database   7  status
  4  start                     8  logs
                               0  exit
EOT
        printf 'choice: '
        read -r choice || {
            echo
            return 0
        }
        case "$choice" in
            1) attempt auto ;;
            2) attempt install_deps ;;
            3) attempt init_db ;;
            4) attempt start ;;
            5) attempt stop ;;
            6) attempt restart ;;
            7) attempt status ;;
            8)
                printf 'service (Enter: all): '
                read -r target || target=''
                attempt logs "$target"
                ;;
            0 | 9 | q | exit) return 0 ;;
            "") ;;
            *) echo "no such choice: $choice (expected 0 to 8)" ;;
        esac
    done
}

# -------------------------------------------------------------------------------------------------------------- main

ACTION=menu
ACTION_ARGS=()
set_action() {
    [ "$ACTION" = menu ] || die "more than one step: choose one" "See packaging/setup.sh --help"
    ACTION=$1
}
while [ $# -gt 0 ]; do
    case "$1" in
        --auto) set_action auto ;;
        --install-deps) set_action install_deps ;;
        --build) set_action build ;;
        --init-db) set_action init_db ;;
        --start) set_action start ;;
        --stop) set_action stop ;;
        --restart) set_action restart ;;
        --status) set_action status ;;
        --logs)
            set_action logs
            if [ $# -gt 1 ] && [ "${2#-}" = "$2" ]; then
                ACTION_ARGS=("$2")
                shift
            fi
            ;;
        --config)
            [ $# -gt 1 ] || die "--config needs a file"
            CONFIG=$(realpath -m -- "$2")
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            printf '\n%serror:%s unknown option: %s\n' "$RED" "$PLAIN" "$1" >&2
            exit 2
            ;;
    esac
    shift
done

if ! mkdir -p "$ROOT/build" || ! touch "$LOG"; then
    die "cannot write to $ROOT/build" "Does the checkout belong to another user?"
fi
printf '\n== %s setup.sh %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S')" "$ACTION" >>"$LOG"
if [ "$ACTION" = status ]; then
    trap - ERR  # a status that is not 0 is an answer
fi
"$ACTION" "${ACTION_ARGS[@]}"
