#!/usr/bin/env bash
# Resource limits, tested in a virtual machine whose kernel has all of cgroup v2, whatever this machine has:
#
#   tests/vm/run.sh                  the scenarios limits and stop_tree
#   tests/vm/run.sh SCENARIO...      others, or one test: limits/Limits.test_on_exceed_alert_only_tells
#
# Installs what is missing (kind "vm" of packaging/packages.txt), fetches Debian's kernel without installing it, packs it
# with the release build's programs, python3 and the scenarios into an initramfs, and boots that under QEMU, emulated in software: slow, but the same everywhere. Each scenario
# runs twice: in the root cgroup, and with each daemon alone in a cgroup that was delegated to it, as under systemd's
# Delegate=yes. The exit code is 0 when all have passed. What the machine said is kept in tests/vm/last_run.txt.
#
# Environment:
#   SUPERVISOR_BIN_DIR    the programs; default build/release/bin
#   VM_TIME_LIMIT         seconds for the whole run; default 3000
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
HERE="$ROOT/tests/vm"
WORK="$ROOT/build/vm"
LOG="$WORK/setup.log"
BIN=${SUPERVISOR_BIN_DIR:-$ROOT/build/release/bin}
LIMIT=${VM_TIME_LIMIT:-3000}
# shellcheck source=packaging/lib.sh
. "$ROOT/packaging/lib.sh"

case "${1:-}" in
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac
scenarios=("$@")
[ "${#scenarios[@]}" -gt 0 ] || scenarios=(limits stop_tree)

# kernel: prints the path of the newest kernel that Debian has for virtual machines; it is unpacked, never installed, so
# nothing changes in how this machine boots.
kernel() {
    local package image
    package=$(apt-cache depends "$(packages_of vm-kernel)" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2 }')
    [ -n "$package" ] || die "apt knows no kernel: $(packages_of vm-kernel)" "Try: apt-get update"
    image="$WORK/$package/boot/vmlinuz-${package#linux-image-}"
    if [ ! -f "$image" ]; then
        (cd "$WORK" && apt-get download -q "$package" >>"$LOG" 2>&1) ||
            die "apt-get could not download $package" "See $LOG"
        dpkg-deb -x "$WORK/$package"_*.deb "$WORK/$package"
        rm -f "$WORK/$package"_*.deb
    fi
    echo "$image"
}

[ -x "$BIN/supervisord" ] || die "no supervisord in $BIN" "Build it: cmake --preset release && cmake --build --preset release"
mkdir -p "$WORK"
install_packages run vm
image=$(kernel)
stdlib=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
"$HERE/initramfs.py" "$WORK/initramfs.gz" /bin/busybox "$HERE/init.sh" \
    /bin/dash:/bin/sh /usr/bin/python3 "$stdlib" \
    "$BIN/supervisord:/supervisor/bin/supervisord" "$BIN/supervisorctl:/supervisor/bin/supervisorctl" \
    "$ROOT/tests/scenarios:/supervisor/tests/scenarios"

# What is emulated is several times slower; and every limit of the scenarios grows along.
scale=6
console="$WORK/console.txt"
words="console=ttyS0 quiet panic=-1 cgroup_no_v1=all scale=$scale scenarios=$(IFS=, && echo "${scenarios[*]}")"
printf 'booting %s under QEMU\n' "$(basename "$image")"
status=0
timeout --foreground "$LIMIT" qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 1536 -nodefaults \
    -display none -no-reboot -serial stdio -kernel "$image" -initrd "$WORK/initramfs.gz" -append "$words" \
    </dev/null 2>&1 | sed -u 's/\r$//' | tee "$console" || status=$?
{
    printf '# tests/vm/run.sh %s, %s\n' "${scenarios[*]}" "$(qemu-system-x86_64 --version | head -n 1)"
    sed -n '/^kernel /,$ s/[[:blank:]]*$//p' "$console"
} >"$HERE/last_run.txt"
failed=$(sed -n 's/^VM-RESULT: //p' "$console")
case "$failed" in
    0) echo "passed" ;;
    '') die "the machine ended without a result (exit $status; 124: not within $LIMIT s)" "What it said: $console" ;;
    *) die "$failed scenario runs failed" "What the machine said: $HERE/last_run.txt" ;;
esac
