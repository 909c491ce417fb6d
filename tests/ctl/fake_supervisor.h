#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/unique_fd.h"
#include "supervisor/v1/supervisor.grpc.pb.h"

namespace supervisor {

// The answers of a daemon. What a test does not set is UNIMPLEMENTED, as in an older daemon. Called on gRPC's threads.
class FakeAnswers : public v1::Supervisor::Service {
 public:
  template <class Request, class Response>
  using Unary = std::function<grpc::Status(const Request&, Response*)>;
  template <class Request, class Message>
  using Stream = std::function<grpc::Status(const Request&, grpc::ServerContext*, grpc::ServerWriter<Message>*)>;

  Unary<v1::StatusRequest, v1::StatusResponse> status;
  Unary<v1::ActionRequest, v1::ActionResponse> start;
  Unary<v1::ActionRequest, v1::ActionResponse> stop;
  Unary<v1::ActionRequest, v1::ActionResponse> restart;
  Unary<v1::SignalRequest, v1::ActionResponse> signal;
  Stream<v1::LogsRequest, v1::LogChunk> logs;
  Unary<v1::HealthRequest, v1::HealthResponse> health;
  Stream<v1::EventsRequest, v1::Event> events;
  Unary<v1::SummaryRequest, v1::SummaryResponse> summary;
  Unary<v1::ExplainRequest, v1::ExplainResponse> explain;
  Unary<v1::ReloadRequest, v1::ReloadResponse> reload;
  Unary<v1::MetricsRequest, v1::MetricsResponse> metrics;
  Unary<v1::AlertsRequest, v1::AlertsResponse> alerts;
  Unary<v1::ShutdownRequest, v1::ShutdownResponse> shutdown;
  Unary<v1::UpgradeRequest, v1::UpgradeResponse> upgrade;
  Unary<v1::VersionRequest, v1::VersionResponse> version;

 private:
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*, v1::StatusResponse*) override;
  grpc::Status Start(grpc::ServerContext*, const v1::ActionRequest*, v1::ActionResponse*) override;
  grpc::Status Stop(grpc::ServerContext*, const v1::ActionRequest*, v1::ActionResponse*) override;
  grpc::Status Restart(grpc::ServerContext*, const v1::ActionRequest*, v1::ActionResponse*) override;
  grpc::Status Signal(grpc::ServerContext*, const v1::SignalRequest*, v1::ActionResponse*) override;
  grpc::Status Logs(grpc::ServerContext*, const v1::LogsRequest*, grpc::ServerWriter<v1::LogChunk>*) override;
  grpc::Status Health(grpc::ServerContext*, const v1::HealthRequest*, v1::HealthResponse*) override;
  grpc::Status Events(grpc::ServerContext*, const v1::EventsRequest*, grpc::ServerWriter<v1::Event>*) override;
  grpc::Status Summary(grpc::ServerContext*, const v1::SummaryRequest*, v1::SummaryResponse*) override;
  grpc::Status Explain(grpc::ServerContext*, const v1::ExplainRequest*, v1::ExplainResponse*) override;
  grpc::Status Reload(grpc::ServerContext*, const v1::ReloadRequest*, v1::ReloadResponse*) override;
  grpc::Status Metrics(grpc::ServerContext*, const v1::MetricsRequest*, v1::MetricsResponse*) override;
  grpc::Status Alerts(grpc::ServerContext*, const v1::AlertsRequest*, v1::AlertsResponse*) override;
  grpc::Status Shutdown(grpc::ServerContext*, const v1::ShutdownRequest*, v1::ShutdownResponse*) override;
  grpc::Status Upgrade(grpc::ServerContext*, const v1::UpgradeRequest*, v1::UpgradeResponse*) override;
  grpc::Status Version(grpc::ServerContext*, const v1::VersionRequest*, v1::VersionResponse*) override;
};

// Serves `answers` on a Unix socket and, like the daemon, accepts the connections itself. The destructor ends it in
// good order.
class FakeSupervisor {
 public:
  // `answers` must outlive this, and is complete by now: gRPC's threads read it.
  FakeSupervisor(std::string socket, FakeAnswers* answers);
  FakeSupervisor(const FakeSupervisor&) = delete;
  FakeSupervisor& operator=(const FakeSupervisor&) = delete;
  ~FakeSupervisor();

  // As a daemon that is killed: no good-bye on the connections. Those that come later are served.
  void DropConnections();
  // As a daemon that is gone: nobody listens any more, and the socket's file is removed.
  void StopListening();

 private:
  void AcceptLoop();

  std::string socket_;
  std::unique_ptr<grpc::Server> server_;
  UniqueFd listener_;
  UniqueFd wake_;  // eventfd: ends AcceptLoop
  std::mutex mutex_;
  std::vector<UniqueFd> connections_;  // duplicates, to cut them; guarded by mutex_
  std::mutex listening_mutex_;         // of StopListening, which an answer may call
  std::thread acceptor_;
};

}  // namespace supervisor
