#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/signal_names.h"
#include "common/time_format.h"
#include "daemon/rpc/supervisor_service.h"
#include "daemon/rpc/wire.h"
#include "daemon/service/restart_policy.h"

// `explain`: one page that answers why a service is in its state and what happens next.

namespace supervisor {
namespace {

constexpr size_t kEvents = 12;
constexpr uint64_t kLines = 10;
constexpr absl::Duration kLinesPatience = absl::Seconds(2);
constexpr absl::Duration kLongStart = absl::Milliseconds(200);  // shorter ones are the usual
constexpr uint32_t kChecks = 5;

// What the restart policy does should it end now.
std::string PolicyText(const RestartPolicyConfig& policy, int attempts) {
  std::string when;
  switch (policy.mode) {
    case RestartMode::kNever:
      return "should it end, it is not restarted (restart_policy.mode is never)";
    case RestartMode::kOnFailure:
      when = "should it fail";
      break;
    case RestartMode::kAlways:
      when = "should it end";
      break;
  }
  if (policy.max_attempts > 0 && attempts >= policy.max_attempts) {
    return fmt::format("should it fail, it is given up: {} of {} restarts are used (restart_policy.max_attempts)",
                       attempts, policy.max_attempts);
  }
  return fmt::format(
      "{}, it is restarted in about {}{}", when, FormatSpan(BackoffDelay(policy, attempts)),
      policy.max_attempts > 0 ? fmt::format(" ({} of {} restarts are used)", attempts, policy.max_attempts) : "");
}

// What a stop that is under way comes to when its time is up.
std::string StopDeadlineText(const Instance& instance, MonoTime now) {
  const MachineState& machine = instance.machine();
  std::string text;
  if (machine.ask_deadline != kNoDeadline) {
    text = fmt::format("it is sent {} in {} if graceful_shutdown.command has not stopped it by then; ",
                       SignalName(instance.config().graceful_shutdown.signal), FormatSpan(machine.ask_deadline - now));
  }
  return text + (machine.deadline == kNoDeadline ? "it is waited for without end (graceful_shutdown.timeout is 0)"
                                                 : fmt::format("it is killed in {} if it has not stopped by then",
                                                               FormatSpan(machine.deadline - now)));
}

std::string NextStep(const Supervisor& supervisor, const Instance& instance, MonoTime now) {
  const MachineState& machine = instance.machine();
  const RestartPolicyConfig& policy = instance.config().restart_policy;
  const absl::Duration left = machine.deadline - now;
  switch (machine.phase) {
    case Phase::kStopped:
      return fmt::format("nothing, until somebody starts it: supervisorctl start {}", instance.id());
    case Phase::kWaiting:
      if (const std::string waits = supervisor.WaitsForWhat(instance); !waits.empty()) {
        return fmt::format("it {}; then it starts", waits);
      }
      return "it starts now: its turn has come";
    case Phase::kBlocked:
      return instance.config().depends_on_completed.empty()
                 ? "it starts by itself when what it depends on is ready"
                 : "it starts by itself when what it depends on is ready, or has completed";
    case Phase::kPreStart:
      return "its process is started when the pre_start hook has ended well";
    case Phase::kSpawning:
    case Phase::kBecomingReady:
      if (instance.looking_up_since() != kNoDeadline) {
        return "its process is started when its user and its environment are known";
      }
      if (instance.awaits_exec_since() != kNoDeadline) {
        return "it runs when its process has become its program";
      }
      return machine.deadline == kNoDeadline ? "it is ready when it says so"
                                             : fmt::format("it has {} left to become ready", FormatSpan(left));
    case Phase::kRunning:
      if (AwaitsItsTurnToStop(machine)) {
        return fmt::format("it {} when what depends on it has stopped", machine.desired_up ? "restarts" : "stops");
      }
      return PolicyText(policy, machine.attempts);
    case Phase::kPreStop:
      return "it is asked to stop when the pre_stop hook has ended";
    case Phase::kTerminating:
      return StopDeadlineText(instance, now);
    case Phase::kKilling:
      return machine.stuck.empty() ? "SIGKILL is repeated until nothing of it is left"
                                   : "nothing waits for it any more; SIGKILL is repeated until nothing of it is left: "
                                     "end those processes "
                                     "as their own user or as root";
    case Phase::kPostStop:
      return "its post_stop hook runs";
    case Phase::kBackoff:
      return fmt::format("the next attempt is in {}{}", FormatSpan(left),
                         policy.max_attempts > 0 && machine.attempts > 0
                             ? fmt::format(" ({} of {} restarts are used)", machine.attempts, policy.max_attempts)
                             : "");
    case Phase::kFailed:
      return fmt::format("nothing, until somebody starts it: supervisorctl start {}", instance.id());
    case Phase::kExited:
      return "nothing: it has done its work";
  }
  return "";
}

// What it rests on and is not up, however many steps away: each is told once, the nearest first.
void AddDependencies(const Supervisor& supervisor, const Instance& instance, std::set<std::string>& told,
                     v1::ExplainResponse* response) {
  std::vector<const Instance*> deeper;
  for (const Instance* other : supervisor.instances()) {
    const std::vector<std::string>& needed = instance.config().depends_on;
    const bool must_complete = instance.config().depends_on_completed.contains(other->config().id);
    const MachineState& machine = other->machine();
    const bool is_satisfied = machine.phase == (must_complete ? Phase::kExited : Phase::kRunning);
    if (std::count(needed.begin(), needed.end(), other->config().id) == 0 || is_satisfied ||
        !told.insert(other->id()).second) {
      continue;
    }
    std::string text = fmt::format("{} depends on {}{}, which is {}", instance.id(), other->id(),
                                   must_complete ? " (condition completed)" : "", StateName(StateOf(machine.phase)));
    text += machine.reason.empty() ? "" : ": " + machine.reason;
    if (machine.last_exit && text.find(ExitText(machine)) == std::string::npos) {
      text += fmt::format(" (its last process {})", ExitText(machine));
    }
    response->add_causes(wire::Utf8(text));
    deeper.push_back(other);
  }
  for (const Instance* other : deeper) {
    AddDependencies(supervisor, *other, told, response);
  }
}

// The chain of causes, nearest first: how it ended, its check, its limits, what it rests on, who wants it so.
void AddCauses(Supervisor& supervisor, const Instance& instance, v1::ExplainResponse* response) {
  const MachineState& machine = instance.machine();
  if (!machine.reason.empty()) {
    response->add_causes(wire::Utf8(machine.reason));
  }
  if (machine.last_exit && machine.reason.find(ExitText(machine)) == std::string::npos) {
    response->add_causes(fmt::format("its last process {}", ExitText(machine)));
  }
  if (machine.phase == Phase::kFailed && machine.attempts > 0) {
    response->add_causes(
        fmt::format("the restart policy has given up after {} of {} restarts "
                    "(restart_policy.max_attempts)",
                    machine.attempts, instance.config().restart_policy.max_attempts));
  }
  const std::deque<CheckResult>& checks = instance.health().history();
  if (!checks.empty() && !checks.back().success) {
    response->add_causes(
        wire::Utf8(fmt::format("its health check fails ({} in a row): {}",
                               instance.health().verdict().consecutive_failures, checks.back().message)));
  }
  if (const uint64_t dropped = instance.dropped_notifications(); dropped > 0) {
    response->add_causes(
        fmt::format("{} of its notifications (sd_notify) were dropped: more than {} a second are not heard", dropped,
                    NotifyBudget::kASecond));
  }
  if (!IsAlive(machine.phase)) {
    if (const std::string left = supervisor.WhatGoesOnOf(instance); !left.empty()) {
      response->add_causes(wire::Utf8(left));
    }
  }
  std::set<std::string> told{instance.id()};
  AddDependencies(supervisor, instance, told, response);
  for (const Alert& alert : supervisor.alerts().open()) {
    const bool affects = std::ranges::count(alert.dependents, instance.id()) > 0;
    if (alert.service_id == instance.id() || affects) {
      response->add_causes(
          wire::Utf8(fmt::format("open alert{} since {} UTC: {}: {}", affects ? " of " + alert.service_id : "",
                                 FormatTimestamp(alert.raised), alert.rule, alert.message)));
    }
  }
  if (!machine.cause.actor.empty()) {
    response->add_causes(
        wire::Utf8(fmt::format("it is wanted {} by {}{}{}", machine.desired_up ? "up" : "down", machine.cause.actor,
                               machine.cause.reason.empty() ? "" : ": ", machine.cause.reason)));
  }
}

constexpr char kHangs[] = "that does not answer?";

// Why a start takes long, where the machine has no reason for it.
void AddSlowStart(const Instance& instance, MonoTime now, v1::ExplainResponse* response) {
  const ServiceConfig& config = instance.config();
  const auto values = [](std::initializer_list<std::pair<std::string_view, const std::string&>> all) {
    std::vector<std::string> given;
    for (const auto& [key, value] : all) {
      if (!value.empty()) {
        given.push_back(fmt::format("{} {}", key, value));
      }
    }
    return fmt::format("{}", fmt::join(given, ", "));
  };
  if (now - instance.looking_up_since() > kLongStart) {
    const std::string of =
        values({{"user", config.user}, {"group", config.group}, {"environment_file", config.environment_file}});
    response->add_causes(wire::Utf8(fmt::format(
        "waits since {} for what the system knows of its {}: a directory server or a file system {}",
        FormatSpan(now - instance.looking_up_since()), of.empty() ? "hooks and stop command" : of, kHangs)));
  } else if (now - instance.awaits_exec_since() > kLongStart) {
    response->add_causes(wire::Utf8(fmt::format(
        "waits since {} to become its program: {} on a file system {}", FormatSpan(now - instance.awaits_exec_since()),
        values({{"command", config.run.command}, {"working_directory", config.working_directory}}), kHangs)));
  }
}

}  // namespace

grpc::ServerUnaryReactor* SupervisorService::Explain(grpc::CallbackServerContext* call,
                                                     const v1::ExplainRequest* request, v1::ExplainResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  OnTurnOf(call, reactor, [this, reactor, request, response] {
    const auto instances = context_.supervisor.Resolve({request->target()});
    if (!instances.ok() || instances->size() != 1) {
      reactor->Finish(wire::ToGrpc(
          !instances.ok() ? instances.status()
                          : absl::InvalidArgumentError(fmt::format("{}: names {} instances; explain is about one",
                                                                   request->target(), instances->size()))));
      return;
    }
    const Instance& instance = *instances->front();
    wire::FillStatus(instance, context_.logs, WallNow(), response->mutable_service());
    for (v1::ResourceLimit& limit : *response->mutable_service()->mutable_limits()) {
      if (limit.enforcement() == "watch") {
        limit.set_watch_interval_seconds(
            absl::ToDoubleSeconds(context_.supervisor.config().monitoring.metrics_interval));
      }
    }
    wire::FillHealth(instance, kChecks, response->mutable_health());
    AddSlowStart(instance, MonotonicNow(), response);
    AddCauses(context_.supervisor, instance, response);
    response->set_next(NextStep(context_.supervisor, instance, MonotonicNow()));
    Store::EventQuery query;
    query.service_ids = {instance.id()};
    query.limit = kEvents;
    const auto finish = [this, reactor, response,
                         of = instance.WhoseLastLines()](const absl::StatusOr<std::vector<EventRow>>& rows) {
      if (rows.ok()) {
        for (const EventRow& row : *rows) {
          wire::FillEvent(row, response->add_events());
        }
      } else {
        response->set_notice(
            fmt::format("its history is missing: {}", wire::Utf8(std::string(rows.status().message()))));
      }
      AddLastLines(of, reactor, response);
    };
    context_.supervisor.QueryEvents(query, FromStore<std::vector<EventRow>>(context_.loop, finish));
  });
  return reactor;
}

// The last part of the answer, which does not wait for a file system that hangs.
void SupervisorService::AddLastLines(const LastLinesOf& of, grpc::ServerUnaryReactor* reactor,
                                     v1::ExplainResponse* response) {
  const auto finish = [reactor, response](const absl::StatusOr<std::vector<std::string>>& lines) {
    if (lines.ok()) {
      for (const std::string& line : *lines) {
        response->add_last_lines(wire::Utf8(line));
      }
    } else {
      response->set_notice(fmt::format("{}{}its last lines are missing: {}", response->notice(),
                                       response->notice().empty() ? "" : "; ",
                                       wire::Utf8(std::string(lines.status().message()))));
    }
    reactor->Finish(grpc::Status::OK);
  };
  const std::string asked =
      fmt::format("{}{}{}", fmt::join(of.log_files, ", "), of.environment_file.empty() ? "" : " or environment_file ",
                  of.environment_file);
  const WithPatience<std::vector<std::string>> lines(
      context_.loop, kLinesPatience,
      fmt::format("{} did not answer within {}: a file system that hangs?", asked, FormatSpan(kLinesPatience)), finish);
  if (!context_.supervisor.last_lines().Read(of, kLines * of.log_files.size(), lines)) {
    lines(absl::ResourceExhaustedError(fmt::format("too many others wait for theirs; asked were {}", asked)));
  }
}

}  // namespace supervisor
