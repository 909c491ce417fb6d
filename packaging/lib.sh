# shellcheck shell=bash
# What setup.sh, verify.sh and tests/run.sh share. Sourced, never run. The caller sets ROOT (the checkout) and may set
# LOG, a file to which the output of long commands goes, and INDENT, what stands before each line of progress.

# shellcheck disable=SC2034  # each script uses some of them
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' DIM=$'\e[2m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' GREEN='' DIM='' PLAIN=''
fi

# die WHAT [WHAT TO DO...]: ends the script with exit code 1.
die() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
    shift
    local line
    for line in "$@"; do
        printf '       %s\n' "$line" >&2
    done
    exit 1
}

# packages_of KIND...: the names in packages.txt that are of these kinds.
packages_of() {
    local kind
    for kind in "$@"; do
        awk -v kind="$kind" '$1 == kind { print $2 }' "$ROOT/packaging/packages.txt"
    done
}

# missing_packages NAME...: those that are not installed, one a line.
missing_packages() {
    local name
    for name in "$@"; do
        # A pipe into grep would hide dpkg-query's own failure, which means "not installed" all the same.
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || echo "$name"
    done
}

# as_root COMMAND...: as it is for root, else through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# install_packages KIND...: installs what is missing and says what it did. Nothing is asked for, and nothing is touched
# when all is there.
install_packages() {
    command -v dpkg-query >/dev/null || die "this is no Debian system: dpkg-query is missing" \
        "Install the packages named in packaging/packages.txt your system's way, then go on with --build."
    local -a wanted missing
    mapfile -t wanted < <(packages_of "$@")
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    if [ "${#missing[@]}" -eq 0 ]; then
        printf '%sall %s packages are installed\n' "${INDENT:-}" "${#wanted[@]}"
        return 0
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "${#missing[@]} packages are missing, and only root can install them" \
            "As root: apt-get install --no-install-recommends ${missing[*]}" "Then run this again."
    fi
    printf '%sinstalling %s of %s packages: %s\n' "${INDENT:-}" "${#missing[@]}" "${#wanted[@]}" "${missing[*]}"
    local -a apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2)
    # A source that does not answer need not matter: the package may come from another, or be in the cache.
    as_root "${apt[@]}" update </dev/null >>"${LOG:-/dev/null}" 2>&1 ||
        printf '%sapt-get update had trouble; going on with the lists that are there\n' "${INDENT:-}"
    as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >>"${LOG:-/dev/null}" 2>&1 || {
        [ -z "${LOG:-}" ] || tail -n 12 "$LOG" >&2
        die "apt-get could not install the packages" \
            "Is the network up, and does /etc/apt/sources.list name a Debian 12 mirror? Try: apt-get update" \
            "By hand: apt-get install --no-install-recommends ${missing[*]}"
    }
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    [ "${#missing[@]}" -eq 0 ] || die "still not installed: ${missing[*]}"
}

# config_value FILE KEY...: the string or number at global.KEY... of a configuration, nothing where there is none. A
# value with ${NAME} in it is left to the daemon: nothing.
config_value() {
    python3 - "$@" <<'PY' 2>/dev/null || true
import json, sys
value = json.load(open(sys.argv[1], encoding="utf-8"))
for key in sys.argv[2:]:
    value = value.get(key, {})
if isinstance(value, (str, int, float)) and "${" not in str(value):
    print(value)
PY
}

# json_get KEY: the first value named KEY, at whatever depth, in the JSON on stdin.
json_get() {
    python3 -c '
import json, sys
def find(value, key):
    if isinstance(value, dict):
        if key in value:
            return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            found = find(item, key)
            if found is not None:
                return found
    return None
found = find(json.load(sys.stdin), sys.argv[1])
print("" if found is None else found)' "$1" 2>/dev/null || true
}
