#include "daemon/rpc/rpc_server.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>

#include <thread>
#include <utility>

#include "common/diag_log.h"
#include "daemon/rpc/listener.h"
#include "daemon/rpc/peers.h"
#include "daemon/rpc/supervisor_service.h"

namespace supervisor {
namespace {

constexpr int kMostRequestBytes = 1 << 20;
constexpr absl::Duration kLastAnswers = absl::Seconds(1);
constexpr absl::Duration kLastReads = absl::Milliseconds(250);

class RpcServerImpl final : public RpcServer {
 public:
  explicit RpcServerImpl(const RpcContext& context) : loop_(context.loop), service_(context, peers_) {}
  ~RpcServerImpl() override {
    if (closer_.joinable()) {
      closer_.join();
    }
  }
  RpcServerImpl(const RpcServerImpl&) = delete;
  RpcServerImpl& operator=(const RpcServerImpl&) = delete;

  absl::Status Start(const Listener::Options& options) {
    // Held until the process ends. To take the library down with the last server waits for a thread of its own that
    // sleeps in a poll of 10 s, whenever an answer was still to be written to somebody who did not read.
    grpc_init();
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
        Listener::Open(loop_, options, [this](UniqueFd connection) { OnConnection(std::move(connection)); });
    if (!listener.ok()) {
      return listener.status();
    }
    listener_ = *std::move(listener);
    return absl::OkStatus();
  }

  UniqueFd PrepareShutdown() override { return listener_->StopLookingAfter(); }

  // gRPC takes leave of each connection with a ping and gives the other end 20 s to answer it. A client that is asleep
  // (stopped, at a pager, between two questions) does not, and none of its answers is under way then: we hang up on it.
  void Shutdown(std::function<void()> closed) override {
    listener_.reset();
    service_.EndStreams();
    last_reads_ = loop_.NewTimer([this] { peers_.HangUp(Peers::Whom::kWhoDoesNotRead); });
    last_reads_->ArmAfter(kLastReads);
    last_answers_ = loop_.NewTimer([this] { peers_.HangUp(Peers::Whom::kAll); });
    last_answers_->ArmAfter(kLastAnswers);
    closer_ = std::thread([this, closed = std::move(closed)]() mutable {
      server_->Shutdown();
      loop_.Post(std::move(closed));
    });
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

  Loop& loop_;
  Peers peers_;
  SupervisorService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Loop::Timer> last_reads_;
  std::unique_ptr<Loop::Timer> last_answers_;
  std::thread closer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const RpcContext& context, const std::string& socket,
                                                            mode_t mode, const std::string& private_directory) {
  auto server = std::make_unique<RpcServerImpl>(context);
  const absl::Status status = server->Start({.path = socket,
                                             .private_directory = private_directory,
                                             .mode = mode,
                                             .group = context.socket_group.value_or(static_cast<gid_t>(-1)),
                                             .surroundings = context.surroundings});
  if (!status.ok()) {
    return status;
  }
  return server;
}

}  // namespace supervisor
