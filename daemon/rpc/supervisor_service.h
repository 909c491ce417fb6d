#pragma once

#include <list>
#include <memory>
#include <mutex>

#include "daemon/rpc/caller_turns.h"
#include "daemon/rpc/event_followers.h"
#include "daemon/rpc/events_call.h"
#include "daemon/rpc/from_store.h"
#include "daemon/rpc/log_followers.h"
#include "daemon/rpc/logs_call.h"
#include "daemon/rpc/peers.h"
#include "daemon/rpc/rpc_server.h"
#include "supervisor/v1/supervisor.grpc.pb.h"

namespace supervisor {

// The generated service's methods: who asks, may they, then over to the loop and back. gRPC's threads call them.
class SupervisorService final : public v1::Supervisor::CallbackService {
 public:
  SupervisorService(const RpcContext& context, const Peers& peers);
  ~SupervisorService() override { log_workers_->Close(); }
  SupervisorService(const SupervisorService&) = delete;
  SupervisorService& operator=(const SupervisorService&) = delete;

  // No stream outlives this call for long.
  void EndStreams();

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* call, const v1::StatusRequest* request,
                                   v1::StatusResponse* response) override;
  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                  v1::ActionResponse* response) override;
  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                 v1::ActionResponse* response) override;
  grpc::ServerUnaryReactor* Restart(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                    v1::ActionResponse* response) override;
  grpc::ServerUnaryReactor* Signal(grpc::CallbackServerContext* call, const v1::SignalRequest* request,
                                   v1::ActionResponse* response) override;
  grpc::ServerWriteReactor<v1::LogChunk>* Logs(grpc::CallbackServerContext* call,
                                               const v1::LogsRequest* request) override;
  grpc::ServerUnaryReactor* Health(grpc::CallbackServerContext* call, const v1::HealthRequest* request,
                                   v1::HealthResponse* response) override;
  grpc::ServerWriteReactor<v1::Event>* Events(grpc::CallbackServerContext* call,
                                              const v1::EventsRequest* request) override;
  grpc::ServerUnaryReactor* Summary(grpc::CallbackServerContext* call, const v1::SummaryRequest* request,
                                    v1::SummaryResponse* response) override;
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* call, const v1::ExplainRequest* request,
                                    v1::ExplainResponse* response) override;
  grpc::ServerUnaryReactor* Reload(grpc::CallbackServerContext* call, const v1::ReloadRequest* request,
                                   v1::ReloadResponse* response) override;
  grpc::ServerUnaryReactor* Metrics(grpc::CallbackServerContext* call, const v1::MetricsRequest* request,
                                    v1::MetricsResponse* response) override;
  grpc::ServerUnaryReactor* RecordMetrics(grpc::CallbackServerContext* call, const v1::RecordMetricsRequest* request,
                                          v1::RecordMetricsResponse* response) override;
  grpc::ServerUnaryReactor* Alerts(grpc::CallbackServerContext* call, const v1::AlertsRequest* request,
                                   v1::AlertsResponse* response) override;
  grpc::ServerUnaryReactor* TestNotifications(grpc::CallbackServerContext* call,
                                              const v1::TestNotificationsRequest* request,
                                              v1::TestNotificationsResponse* response) override;
  grpc::ServerUnaryReactor* Upgrade(grpc::CallbackServerContext* call, const v1::UpgradeRequest* request,
                                    v1::UpgradeResponse* response) override;
  grpc::ServerUnaryReactor* Shutdown(grpc::CallbackServerContext* call, const v1::ShutdownRequest* request,
                                     v1::ShutdownResponse* response) override;
  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* call, const v1::VersionRequest* request,
                                    v1::VersionResponse* response) override;

 private:
  // The caller, allowed to act, as events name it.
  absl::StatusOr<Cause> Authorize(const grpc::CallbackServerContext* call, const std::string& reason) const;
  // Runs `work` on the loop: at once for a caller who may act, in its turn for one who may only look.
  // ResourceExhausted, and `work` is dropped, where too many of that one's calls wait.
  absl::Status OnTurnOf(const grpc::CallbackServerContext* call, std::function<void()> work);
  // The same for a call with one answer, which that error is then.
  void OnTurnOf(const grpc::CallbackServerContext* call, grpc::ServerUnaryReactor* reactor, std::function<void()> work);
  // Likewise; what `work` returns answers the call.
  grpc::ServerUnaryReactor* OnLoop(grpc::CallbackServerContext* call, std::function<absl::Status()> work);
  using Action = std::function<absl::Status(const std::vector<std::string>&, const ActionOptions&, ActionsDone)>;
  grpc::ServerUnaryReactor* Act(grpc::CallbackServerContext* call, const v1::ActionRequest* request,
                                v1::ActionResponse* response, Action action);
  ActionsDone Answer(grpc::ServerUnaryReactor* reactor, google::protobuf::RepeatedPtrField<v1::ActionResult>* results);

  void AddLastLines(const LastLinesOf& of, grpc::ServerUnaryReactor* reactor, v1::ExplainResponse* response);

  RpcContext context_;
  const Peers& peers_;
  CallerTurns turns_;
  const absl::Duration began_;  // since boot: the guardian, or this process where there is none
  StreamWorkers workers_;
  const std::shared_ptr<LogWorkers> log_workers_ = std::make_shared<LogWorkers>(context_.logs);
  StreamRegistry streams_;
  LogFollowers log_followers_{context_.supervisor};                     // the loop's
  EventFollowers event_followers_{context_.loop, context_.supervisor};  // likewise
};

}  // namespace supervisor
