"""What every scenario stands on: a real supervisord in a temporary directory, and a real supervisorctl to talk to it.

    with Daemon({"web": sleeper()}) as daemon:
        daemon.wait_state("web", "running")
        daemon.ctl("stop", "web")

Leaving the block stops the daemon with `supervisord --stop` and checks what must hold after every scenario: no process
is left (each carries SCENARIO_MARK in its environment, services, daemon and guardian alike), no socket and no pid file,
no sanitizer report. When a scenario fails, the tail of the daemon's log and of its stderr is printed.

Environment:
    SUPERVISOR_BIN_DIR    where supervisord and supervisorctl are; default: build/release/bin
    SCENARIO_TIME_SCALE   factor for every time limit; default 1, more for sanitizer builds
    SCENARIO_CGROUP       a cgroup v2 that has controllers to give: every daemon runs in one of its own below it
    SCENARIO_KEEP         keep the temporary directory of a scenario that failed

Waiting is always for a condition with a deadline (wait_until), never for a span of time.
"""

from . import rpc_call
from .commands import Result, Stream, run
from .daemon import (
    BIN_DIR,
    DONE,
    FAILED,
    NO_SUCH_SERVICE,
    NOT_PERMITTED,
    NOT_RUNNING,
    ROOT,
    SUPERVISORCTL,
    SUPERVISORD,
    TIMED_OUT,
    UNREACHABLE,
    USAGE,
    Daemon,
    Workspace,
)
from .namespaces import Container, hung_file_system, main_in_pid_namespace, read_only, small_disk, with_name_server, without_cgroups
from .processes import (
    cgroup_of,
    children_of,
    cpu_seconds,
    environment,
    free_port,
    is_alive,
    kill,
    process_stat,
    process_status,
    processes_with,
    read_proc,
    remove_tree,
)
from .programs import held_program
from .receivers import HttpReceiver, MailReceiver, refused_port
from .scenario import TIMESTAMP, Scenario, main, needs_root
from .services import merge, python, shell, sleeper
from .waiting import SCALE, ScenarioError, eventually, wait_until
