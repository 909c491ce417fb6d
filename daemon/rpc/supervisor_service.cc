#include "daemon/rpc/supervisor_service.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/diag_log.h"
#include "common/signal_names.h"
#include "common/version.h"
#include "daemon/process/proc_fs.h"
#include "daemon/rpc/request_targets.h"
#include "daemon/rpc/wire.h"

namespace supervisor {
namespace {

constexpr uint32_t kRecentEvents = 8;
constexpr size_t kLongestReason = 1024;  // it stands in each event of what it was given for

absl::StatusOr<std::vector<std::string>> NeededTargets(const google::protobuf::RepeatedPtrField<std::string>& targets) {
  if (targets.empty()) {
    return absl::InvalidArgumentError("at least one TARGET is needed (\"all\" for all)");
  }
  return BoundedTargets(targets);
}

// What of its log was not passed on, in words; empty where all was.
std::string ForwardRemark(const LogPump& logs, const Instance& instance) {
  uint64_t missed = 0;
  bool more = false;
  for (const std::string& stream : {instance.stdout_stream(), instance.stderr_stream()}) {
    const LogStreamStats stats = logs.Stats(stream);
    missed += stats.forward_missed_bytes;
    more |= stats.forward_missed_more;
  }
  if (missed > 0) {
    return fmt::format("{}: at least {} bytes of its log were not forwarded before rotation took them", instance.id(),
                       missed);
  }
  return more ? fmt::format("{}: bytes of its log may be not forwarded: rotation took files before", instance.id())
              : "";
}

}  // namespace

SupervisorService::SupervisorService(const RpcContext& context, const Peers& peers)
    : context_(context),
      peers_(peers),
      turns_(context.loop),
      began_(StartSinceBoot(context.guardian_pid != 0 ? context.guardian_pid : getpid())) {}

void SupervisorService::EndStreams() {
  streams_.EndAll();
  log_workers_->Stop();
}

absl::StatusOr<Cause> SupervisorService::Authorize(const grpc::CallbackServerContext* call,
                                                   const std::string& reason) const {
  const std::optional<Peer> peer = peers_.Find(call->peer());
  if (!peer) {
    return absl::PermissionDeniedError("the caller is not known");
  }
  if (absl::Status status = MayAct(*peer, context_.socket_group, context_.socket_group_name); !status.ok()) {
    return status;
  }
  if (reason.size() > kLongestReason) {
    return absl::InvalidArgumentError(
        fmt::format("the reason is too long: {} bytes (expected at most {})", reason.size(), kLongestReason));
  }
  return Cause{.actor = DescribePeer(*peer), .reason = reason};
}

absl::Status SupervisorService::OnTurnOf(const grpc::CallbackServerContext* call, std::function<void()> work) {
  const std::optional<Peer> peer = peers_.Find(call->peer());
  if (!peer) {
    return absl::PermissionDeniedError("the caller is not known");
  }
  if (IsAllowedToAct(*peer, context_.socket_group)) {
    context_.loop.Post(std::move(work));
    return absl::OkStatus();
  }
  return turns_.Post(peer->uid, std::move(work)) ? absl::OkStatus()
                                                 : absl::ResourceExhaustedError(fmt::format(
                                                       "{} calls of uid {}, who may only look, wait already: ask again "
                                                       "when they are answered",
                                                       CallerTurns::kMostWaiting, peer->uid));
}

void SupervisorService::OnTurnOf(const grpc::CallbackServerContext* call, grpc::ServerUnaryReactor* reactor,
                                 std::function<void()> work) {
  if (const absl::Status status = OnTurnOf(call, std::move(work)); !status.ok()) {
    reactor->Finish(wire::ToGrpc(status));
  }
}

grpc::ServerUnaryReactor* SupervisorService::OnLoop(grpc::CallbackServerContext* call,
                                                    std::function<absl::Status()> work) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  OnTurnOf(call, reactor, [reactor, work = std::move(work)] { reactor->Finish(wire::ToGrpc(work())); });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::Status(grpc::CallbackServerContext* call, const v1::StatusRequest* request,
                                                    v1::StatusResponse* response) {
  return OnLoop(call, [this, targets = BoundedTargets(request->targets()), response]() -> absl::Status {
    if (!targets.ok()) {
      return targets.status();
    }
    const auto instances = context_.supervisor.Resolve(*targets);
    if (!instances.ok()) {
      return instances.status();
    }
    const absl::Time now = WallNow();
    for (const Instance* instance : *instances) {
      wire::FillStatus(*instance, context_.logs, now, response->add_services());
    }
    return absl::OkStatus();
  });
}

ActionsDone SupervisorService::Answer(grpc::ServerUnaryReactor* reactor,
                                      google::protobuf::RepeatedPtrField<v1::ActionResult>* results) {
  return [this, reactor, results](const std::vector<ActionOutcome>& outcomes) {
    for (const ActionOutcome& outcome : outcomes) {
      wire::FillOutcome(outcome, context_.supervisor, context_.logs, results->Add());
    }
    reactor->Finish(grpc::Status::OK);
  };
}

grpc::ServerUnaryReactor* SupervisorService::Act(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                                 v1::ActionResponse* response, Action action) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const absl::StatusOr<Cause> cause = Authorize(call, request->reason());
  absl::StatusOr<std::vector<std::string>> targets = NeededTargets(request->targets());
  if (!cause.ok() || !targets.ok()) {
    reactor->Finish(wire::ToGrpc(cause.ok() ? targets.status() : cause.status()));
    return reactor;
  }
  context_.loop.Post(
      [this, reactor, request, response, action = std::move(action), targets = *std::move(targets), cause = *cause] {
        const ActionOptions options{.cause = cause,
                                    .no_wait = request->no_wait(),
                                    .with_dependents = request->with_dependents(),
                                    .timeout = absl::Seconds(std::max(0.0, request->timeout_seconds()))};
        const absl::Status status = action(targets, options, Answer(reactor, response->mutable_results()));
        if (!status.ok()) {
          reactor->Finish(wire::ToGrpc(status));
        }
      });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::Start(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                                   v1::ActionResponse* response) {
  return Act(call, request, response,
             [this](const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done) {
               return context_.supervisor.Start(targets, options, std::move(done));
             });
}

grpc::ServerUnaryReactor* SupervisorService::Stop(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                                  v1::ActionResponse* response) {
  return Act(call, request, response,
             [this](const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done) {
               return context_.supervisor.Stop(targets, options, std::move(done));
             });
}

grpc::ServerUnaryReactor* SupervisorService::Restart(grpc::CallbackServerContext* call,
                                                     const v1::ActionRequest* request, v1::ActionResponse* response) {
  return Act(call, request, response,
             [this](const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done) {
               return context_.supervisor.Restart(targets, options, std::move(done));
             });
}

grpc::ServerUnaryReactor* SupervisorService::Signal(grpc::CallbackServerContext* call, const v1::SignalRequest* request,
                                                    v1::ActionResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const absl::StatusOr<Cause> cause = Authorize(call, request->reason());
  const std::optional<int> signal = ParseSignal(request->signal());
  absl::StatusOr<std::vector<std::string>> targets = NeededTargets(request->targets());
  absl::Status status = cause.ok() ? targets.status() : cause.status();
  if (status.ok() && !signal) {
    status = absl::InvalidArgumentError(
        fmt::format("no such signal: {} (a name such as HUP or a number)", request->signal()));
  }
  if (!status.ok()) {
    reactor->Finish(wire::ToGrpc(status));
    return reactor;
  }
  context_.loop.Post([this, reactor, response, number = *signal, targets = *std::move(targets), cause = *cause] {
    const absl::Status sent =
        context_.supervisor.Signal(targets, number, cause, Answer(reactor, response->mutable_results()));
    if (!sent.ok()) {
      reactor->Finish(wire::ToGrpc(sent));
    }
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::LogChunk>* SupervisorService::Logs(grpc::CallbackServerContext* call,
                                                                const v1::LogsRequest* request) {
  LogsCall* stream = LogsCall::Make(log_workers_, streams_, context_.logs, *request);
  absl::StatusOr<std::vector<std::string>> targets = NeededTargets(request->targets());
  if (!targets.ok()) {
    stream->Refuse(wire::ToGrpc(targets.status()));
    return stream;
  }
  LogFollowers::Request wanted{.targets = *std::move(targets),
                               .is_stderr = request->stderr(),
                               .follow = request->follow() && request->until_unix_ms() == 0,
                               .caller = {}};
  if (const std::optional<Peer> peer = wanted.follow ? peers_.Find(call->peer()) : std::nullopt) {
    wanted.caller = TraceCaller(peer->pid);
  }
  // Held: its reader may be gone, and it finished, before the loop's turn has come.
  const absl::Status taken = OnTurnOf(call, [this, held = stream->shared_from_this(), wanted = std::move(wanted)] {
    log_followers_.Begin(held, wanted);
  });
  if (!taken.ok()) {
    stream->Refuse(wire::ToGrpc(taken));
  }
  return stream;
}

grpc::ServerWriteReactor<v1::Event>* SupervisorService::Events(grpc::CallbackServerContext* call,
                                                               const v1::EventsRequest* request) {
  EventsCall* stream =
      EventsCall::Make(workers_.Next(), streams_, context_.loop, context_.events, context_.supervisor, *request);
  const absl::StatusOr<std::vector<std::string>> targets = BoundedTargets(request->targets());
  const absl::Status taken =
      !targets.ok() ? targets.status()
                    : OnTurnOf(call, [this, held = stream->shared_from_this(), targets = *targets,
                                      follow = request->follow()] { event_followers_.Begin(held, targets, follow); });
  if (!taken.ok()) {
    stream->Refuse(wire::ToGrpc(taken));
  }
  return stream;
}

grpc::ServerUnaryReactor* SupervisorService::Summary(grpc::CallbackServerContext* call,
                                                     const v1::SummaryRequest* request, v1::SummaryResponse* response) {
  static_cast<void>(request);
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  OnTurnOf(call, reactor, [this, reactor, response] {
    const absl::Time now = WallNow();
    response->set_status(wire::ToWire(context_.supervisor.system_health()));
    response->set_version(kVersion);
    response->set_uptime_seconds(absl::ToDoubleSeconds(SinceBoot() - began_));
    uint32_t running = 0;
    uint32_t stopped = 0;
    uint32_t failed = 0;
    uint32_t unhealthy = 0;
    uint32_t restarts = 0;
    double cpu_percent = 0;
    double memory_mb = 0;
    for (const Instance* instance : context_.supervisor.instances()) {
      wire::FillStatus(*instance, context_.logs, now, response->add_services());
      const ServiceState state = StateOf(instance->machine().phase);
      running += state == ServiceState::kRunning ? 1 : 0;
      stopped += state == ServiceState::kStopped || state == ServiceState::kExited ? 1 : 0;
      failed += state == ServiceState::kFailed || state == ServiceState::kBackoff ? 1 : 0;
      unhealthy += instance->health().health() == supervisor::Health::kUnhealthy ? 1 : 0;
      restarts += static_cast<uint32_t>(instance->machine().restart_count);
      cpu_percent += instance->usage().cpu_percent.value_or(0);
      memory_mb += instance->usage().memory_mb;
      if (const std::string trouble = context_.logs.Stats(instance->stdout_stream()).error; !trouble.empty()) {
        response->add_remarks(fmt::format("{}: {}", instance->id(), trouble));
      }
      if (const std::string remark = ForwardRemark(context_.logs, *instance); !remark.empty()) {
        response->add_remarks(remark);
      }
    }
    response->set_total(static_cast<uint32_t>(response->services_size()));
    response->set_running(running);
    response->set_stopped(stopped);
    response->set_failed(failed);
    response->set_unhealthy(unhealthy);
    response->set_restarts(restarts);
    response->set_cpu_percent(cpu_percent);
    response->set_memory_mb(memory_mb);
    response->set_alerts(static_cast<uint32_t>(context_.supervisor.alerts().open().size()));
    if (const std::string progress = context_.supervisor.ShutdownProgress(); !progress.empty()) {
      response->add_remarks(progress);
    }
    const StoreStats stats = context_.store.Stats();
    if (!stats.error.empty()) {
      response->add_remarks(fmt::format("database: {}", stats.error));
    }
    if (stats.dropped_rows > 0) {
      response->add_remarks(fmt::format("database: {} rows were dropped", stats.dropped_rows));
    }
    if (const uint64_t dropped = DiagLogDropped(); dropped > 0) {
      response->add_remarks(fmt::format("the daemon's own log: {} lines were dropped", dropped));
    }
    for (const std::string& remark : context_.supervisor.alerts().remarks()) {
      response->add_remarks(wire::Utf8(remark));
    }
    Store::EventQuery query;
    query.limit = kRecentEvents;
    const auto finish = [reactor, response](const absl::StatusOr<std::vector<EventRow>>& rows) {
      if (rows.ok()) {
        for (const EventRow& row : *rows) {
          wire::FillEvent(row, response->add_recent_events());
        }
      } else {
        response->add_remarks(fmt::format("no recent events: {}", wire::Utf8(std::string(rows.status().message()))));
      }
      reactor->Finish(grpc::Status::OK);
    };
    context_.supervisor.QueryEvents(query, FromStore<std::vector<EventRow>>(context_.loop, finish));
  });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::Reload(grpc::CallbackServerContext* call, const v1::ReloadRequest* request,
                                                    v1::ReloadResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const absl::StatusOr<Cause> cause = Authorize(call, request->reason());
  if (!cause.ok()) {
    reactor->Finish(wire::ToGrpc(cause.status()));
    return reactor;
  }
  context_.loop.Post([this, reactor, request, response, cause = *cause] {
    context_.reloader.Reload(request->dry_run(), cause, [this, reactor, response](const ReloadResult& result) {
      // Not as an error of the configuration, which it is not.
      if (const absl::Status refused = context_.supervisor.RefuseWhileStopping(); !refused.ok() && !result.applied) {
        reactor->Finish(wire::ToGrpc(refused));
        return;
      }
      wire::FillReload(result, response);
      reactor->Finish(grpc::Status::OK);
    });
  });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::Upgrade(grpc::CallbackServerContext* call,
                                                     const v1::UpgradeRequest* request, v1::UpgradeResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const absl::StatusOr<Cause> cause = Authorize(call, request->reason());
  if (!cause.ok()) {
    reactor->Finish(wire::ToGrpc(cause.status()));
    return reactor;
  }
  response->set_old_version(kVersion);
  context_.loop.Post([this, reactor, cause = *cause] {
    context_.upgrade(cause, [reactor](const absl::Status& status) { reactor->Finish(wire::ToGrpc(status)); });
  });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::Shutdown(grpc::CallbackServerContext* call,
                                                      const v1::ShutdownRequest* request,
                                                      v1::ShutdownResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const absl::StatusOr<Cause> cause = Authorize(call, request->reason());
  if (!cause.ok()) {
    reactor->Finish(wire::ToGrpc(cause.status()));
    return reactor;
  }
  context_.loop.Post([this, reactor, response, no_wait = request->no_wait(), cause = *cause] {
    if (no_wait) {
      reactor->Finish(grpc::Status::OK);
      context_.shutdown(cause, [](const std::vector<ActionOutcome>&) {});
      return;
    }
    context_.shutdown(cause, Answer(reactor, response->mutable_results()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::Version(grpc::CallbackServerContext* call,
                                                     const v1::VersionRequest* request, v1::VersionResponse* response) {
  static_cast<void>(request);
  utsname kernel{};
  uname(&kernel);
  response->set_version(kVersion);
  response->set_pid(getpid());
  response->set_guardian_pid(context_.guardian_pid);
  response->set_started_unix_ms(wire::UnixMillis(context_.daemon_started));
  response->set_config_file(context_.config_file);
  response->set_database(context_.database);
  response->set_grpc_version(grpc::Version());
  response->set_sqlite_version(Store::SqliteVersion());
  response->set_kernel(fmt::format("{} {}", kernel.sysname, kernel.release));
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace supervisor
