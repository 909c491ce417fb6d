#!/bin/sh
# The first process of the virtual machine that run.sh boots: mounts what Linux has to have, runs the scenarios in each of
# the two places where a supervisord may be, and turns the machine off. The last line it writes is "VM-RESULT: N", N being
# how many scenario runs failed.
export PATH=/bin:/usr/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
export SUPERVISOR_BIN_DIR=/supervisor/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
dmesg -n 1 # what the kernel says of each kill would stand in the middle of the tests' lines
ip link set lo up
# run.sh's words to the machine stand on the kernel's command line: scale=N scenarios=A,B
read -r words </proc/cmdline
for word in $words; do
    case "$word" in
        scale=*) export SCENARIO_TIME_SCALE="${word#scale=}" ;;
        scenarios=*) scenarios=$(echo "${word#scenarios=}" | tr , ' ') ;;
    esac
done
root=/sys/fs/cgroup
echo "kernel $(uname -r), cgroup v2 controllers: $(cat $root/cgroup.controllers)"
failed=0

# run WHERE: the scenarios that were asked for, in this place.
run() {
    for scenario in $scenarios; do
        case "$scenario" in
            */*) file=${scenario%%/*} only=${scenario#*/} ;;
            *) file=$scenario only= ;;
        esac
        echo
        echo "== $1: $file $only"
        # shellcheck disable=SC2086  # one test or none
        if ! python3 "/supervisor/tests/scenarios/${file}_test.py" $only 2>&1; then
            failed=$((failed + 1))
        fi
    done
}

export SCENARIO_LIMITS=cgroup
run "in the root cgroup"

mkdir $root/delegated
for controller in memory cpu pids; do
    echo "+$controller" >$root/cgroup.subtree_control
    echo "+$controller" >$root/delegated/cgroup.subtree_control
done
export SCENARIO_CGROUP=$root/delegated
run "each daemon alone in a cgroup that was delegated to it"

echo "VM-RESULT: $failed"
sync
poweroff -f
