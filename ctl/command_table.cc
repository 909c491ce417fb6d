#include "ctl/command_table.h"

#include <algorithm>
#include <array>

namespace supervisor {
namespace {

constexpr uint32_t kActing = kOptNoWait | kOptTimeout | kOptReason;

constexpr std::array<CommandSpec, 18> kCommands = {{
    {.command = Command::kStatus,
     .name = "status",
     .summary = "table of the services: state, pid, uptime, health, load",
     .description = "Show where services stand. Exits 3 when one that was named or, with none named, an enabled one "
                    "is neither running nor exited.",
     .examples = "  supervisorctl status\n  supervisorctl status web 'worker:*' @backend\n"
                 "  supervisorctl status --json | jq -r '.services[] | select(.state != \"running\") | .id'\n",
     .targets = Targets::kAny,
     .options = 0,
     .count_help = ""},
    {.command = Command::kStart,
     .name = "start",
     .summary = "start services, and what they depend on",
     .description = "Start services and what they depend on; wait until they are ready or have failed.",
     .examples =
         "  supervisorctl start web\n  supervisorctl start @backend --timeout 30 --reason 'after the migration'\n",
     .targets = Targets::kSome,
     .options = kActing,
     .count_help = ""},
    {.command = Command::kStop,
     .name = "stop",
     .summary = "stop services, and what depends on them",
     .description = "Stop services and what depends on them; wait until no process of theirs is left. They stay "
                    "stopped until somebody starts them.",
     .examples = "  supervisorctl stop web\n  supervisorctl stop all --no-wait\n",
     .targets = Targets::kSome,
     .options = kActing,
     .count_help = ""},
    {.command = Command::kRestart,
     .name = "restart",
     .summary = "stop and start services",
     .description =
         "Stop and start services; wait until they are ready or have failed. A name also starts what is stopped; a "
         "glob, a group and all restart what is up. Several go down in order, those that depend on others first, and "
         "come up in order. What is not named runs on: without --with-dependents, a service that depends on one of "
         "them loses its connections to it. One whose dependencies cannot be started is not restarted, and runs on.",
     .examples = "  supervisorctl restart web\n  supervisorctl restart worker:0 --timeout 2.5\n"
                 "  supervisorctl restart db --with-dependents\n",
     .targets = Targets::kSome,
     .options = kActing | kOptWithDependents,
     .count_help = ""},
    {.command = Command::kSignal,
     .name = "signal",
     .summary = "send a signal to services",
     .description = "Send a signal to the main process of each service.",
     .examples = "  supervisorctl signal HUP web\n  supervisorctl signal SIGUSR1 'worker:*'\n",
     .targets = Targets::kSignalThenSome,
     .options = kOptReason,
     .count_help = ""},
    {.command = Command::kLogs,
     .name = "logs",
     .summary = "what services wrote; -f follows",
     .description =
         "Show what services wrote: the bytes of one, or the lines of several behind their names. "
         "On a terminal, control characters are written out (\\x1b); elsewhere, and with --raw, the bytes are "
         "exact.",
     .examples = "  supervisorctl logs web -n 100\n  supervisorctl logs web worker -f\n"
                 "  supervisorctl logs web --since 10m --grep 'error|panic'\n"
                 "  supervisorctl logs web --since '2026-11-23 07:28:15' --until '2026-11-23 07:30:00'\n",
     .targets = Targets::kSome,
     .options = kOptFollow | kOptCount | kOptSince | kOptUntil | kOptGrep | kOptStderr | kOptRaw,
     .count_help = "the last N lines, with --grep the last N that match, or \"all\" (default: 10, or all that --since, "
                   "--until and --grep select)"},
    {.command = Command::kHealth,
     .name = "health",
     .summary = "health checks: latest result, success rate, history",
     .description = "Show the health checks' verdicts; of services that are named, their history too. Exits 3 when "
                    "one is unhealthy.",
     .examples = "  supervisorctl health\n  supervisorctl health web -n 50\n",
     .targets = Targets::kAny,
     .options = kOptCount,
     .count_help = "the last N results of each (default: 10)"},
    {.command = Command::kEvents,
     .name = "events",
     .summary = "what happened and who caused it; -f follows",
     .description = "Show the history of events, or with -f those that happen from now on. The target \"supervisor\" "
                    "names the daemon's own.",
     .examples = "  supervisorctl events -n 20\n  supervisorctl events web -f\n  supervisorctl events -f --json\n"
                 "  supervisorctl events --since yesterday --type failed --type oom_killed\n",
     .targets = Targets::kAny,
     .options = kOptFollow | kOptCount | kOptSince | kOptUntil | kOptType,
     .count_help = "the newest N events (default: 50, or all that --since and --until select; with -f: 0)"},
    {.command = Command::kSummary,
     .name = "summary",
     .summary = "the whole system on one screen",
     .description = "Show the whole system on one screen.",
     .examples = "  supervisorctl summary\n",
     .targets = Targets::kNone,
     .options = 0,
     .count_help = ""},
    {.command = Command::kExplain,
     .name = "explain",
     .summary = "why a service is in its state, and what happens next",
     .description = "Explain why a service is in its state: last exits, the last lines it wrote, failing checks, and "
                    "what happens next and when.",
     .examples = "  supervisorctl explain web\n",
     .targets = Targets::kOne,
     .options = 0,
     .count_help = ""},
    {.command = Command::kMetrics,
     .name = "metrics",
     .summary = "CPU, memory and response times over time",
     .description = "Show a service's CPU, memory, response times, processes, descriptors and I/O over time: least, "
                    "mean, 95th percentile, most and the trend; with -n the points too. The last hour, unless --since "
                    "says otherwise.",
     .examples = "  supervisorctl metrics web\n  supervisorctl metrics web --since 1d -n 48\n",
     .targets = Targets::kOne,
     .options = kOptSince | kOptUntil | kOptCount,
     .count_help = "at most N points; longer spans are sampled down (default: 500)"},
    {.command = Command::kAlerts,
     .name = "alerts",
     .summary = "open alerts",
     .description = "Show the alerts that are open. With --test, send a test notification through each channel and "
                    "show what came of it; exits 1 when one was not delivered.",
     .examples = "  supervisorctl alerts\n  supervisorctl alerts --all -n 100\n  supervisorctl alerts --test\n",
     .targets = Targets::kNone,
     .options = kOptAll | kOptCount | kOptTest,
     .count_help = "the newest N alerts (default: 50)"},
    {.command = Command::kTop,
     .name = "top",
     .summary = "the whole system, live",
     .description = "Show the whole system, live, busiest service first. Keys: c, m, r and n sort by CPU, memory, "
                    "restarts and name; q ends it. On no terminal, and with --json, one picture.",
     .examples = "  supervisorctl top\n",
     .targets = Targets::kNone,
     .options = 0,
     .count_help = ""},
    {.command = Command::kCheck,
     .name = "check",
     .summary = "one health check now: http, tcp, process, script or grpc",
     .description = "",  // supervisord's own, see commands/check.cc
     .examples = "",
     .targets = Targets::kNone,
     .options = 0,
     .count_help = ""},
    {.command = Command::kReload,
     .name = "reload",
     .summary = "apply the configuration; --dry-run only says what would happen",
     .description = "Read the configuration again and apply what has changed; only changed services restart. Exits 2 "
                    "when it has errors: then nothing was changed.",
     .examples = "  supervisorctl reload --dry-run\n  supervisorctl reload --reason 'new port for web'\n",
     .targets = Targets::kNone,
     .options = kOptDryRun | kOptReason,
     .count_help = ""},
    {.command = Command::kVersion,
     .name = "version",
     .summary = "versions of this program and of the daemon",
     .description = "Show the versions of this program and of the daemon, and where the daemon has its files.",
     .examples = "  supervisorctl version\n",
     .targets = Targets::kNone,
     .options = 0,
     .count_help = ""},
    {.command = Command::kShutdown,
     .name = "shutdown",
     .summary = "stop all services and the daemon",
     .description = "Stop all services in order, then the daemon; return when all are gone.",
     .examples = "  supervisorctl shutdown --reason 'moving to the new host'\n",
     .targets = Targets::kNone,
     .options = kOptReason | kOptNoWait,
     .count_help = ""},
    {.command = Command::kUpgrade,
     .name = "upgrade",
     .summary = "replace the daemon's binary; services go on",
     .description = "Replace the running daemon by the binary that is installed now. The services go on untouched.",
     .examples = "  supervisorctl upgrade\n",
     .targets = Targets::kNone,
     .options = kOptReason,
     .count_help = ""},
}};

}  // namespace

std::span<const CommandSpec> AllCommands() { return kCommands; }

const CommandSpec* FindCommand(std::string_view name) {
  const auto* found =
      std::find_if(kCommands.begin(), kCommands.end(), [name](const CommandSpec& spec) { return spec.name == name; });
  return found == kCommands.end() ? nullptr : found;
}

}  // namespace supervisor
