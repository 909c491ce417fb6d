#include "daemon/rpc/rpc_server.h"

#include <fmt/format.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>

#include <chrono>
#include <utility>

#include "common/diag_log.h"
#include "daemon/rpc/listener.h"
#include "daemon/rpc/peers.h"
#include "daemon/rpc/supervisor_service.h"

namespace supervisor {
namespace {

constexpr int kMostRequestBytes = 1 << 20;
constexpr std::chrono::milliseconds kLastAnswers(1000);

class RpcServerImpl final : public RpcServer {
 public:
  explicit RpcServerImpl(const RpcContext& context) : service_(context, peers_) {}

  absl::Status Start(Loop& loop, const Listener::Options& options) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(kMostRequestBytes);
    // Reflection is a synchronous service; it gets one thread, and that sleeps.
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::CQ_TIMEOUT_MSEC, 3'600'000);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) {
      return absl::InternalError("gRPC: the server could not be built");
    }
    server_->GetHealthCheckService()->SetServingStatus("supervisor.v1.Supervisor", true);
    absl::StatusOr<std::unique_ptr<Listener>> listener =
        Listener::Open(loop, options, [this](UniqueFd connection) { OnConnection(std::move(connection)); });
    if (!listener.ok()) {
      return listener.status();
    }
    listener_ = *std::move(listener);
    return absl::OkStatus();
  }

  UniqueFd PrepareShutdown() override { return listener_->StopLookingAfter(); }

  void Shutdown() override {
    listener_.reset();
    service_.EndStreams();
    // style-ok(wall-clock): gRPC takes its deadlines so
    server_->Shutdown(std::chrono::system_clock::now() + kLastAnswers);
  }

 private:
  void OnConnection(UniqueFd connection) {
    absl::StatusOr<UniqueFd> registered = peers_.Register(std::move(connection));
    if (!registered.ok()) {
      LogWarning("connection refused", {{"error", std::string(registered.status().message())}});
      return;
    }
    grpc::AddInsecureChannelFromFd(server_.get(), registered->Release());
  }

  Peers peers_;
  SupervisorService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const RpcContext& context, const std::string& socket,
                                                            mode_t mode, const std::string& private_directory) {
  auto server = std::make_unique<RpcServerImpl>(context);
  const absl::Status status =
      server->Start(context.loop, {.path = socket,
                                   .private_directory = private_directory,
                                   .mode = mode,
                                   .group = context.socket_group.value_or(static_cast<gid_t>(-1))});
  if (!status.ok()) {
    return status;
  }
  return server;
}

}  // namespace supervisor
