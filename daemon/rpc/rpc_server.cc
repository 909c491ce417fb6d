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
#include <vector>

#include "common/close_aside.h"
#include "common/diag_log.h"
#include "daemon/loop/helper_pool.h"
#include "daemon/process/descriptor_budget.h"
#include "daemon/rpc/listener.h"
#include "daemon/rpc/peers.h"
#include "daemon/rpc/reader_gate.h"
#include "daemon/rpc/supervisor_service.h"

namespace supervisor {
namespace {

constexpr int kMostRequestBytes = 1 << 20;
// How often clients may ping. gRPC's own default is once in five minutes; clients whose keepalive is set shorter, as
// guides advise, would be sent away from a stream on which nothing happens ("too_many_pings").
constexpr int kLeastPingIntervalMs = 200;
constexpr absl::Duration kLastAnswers = absl::Seconds(1);
constexpr absl::Duration kLongestClose = absl::Seconds(5);
constexpr absl::Duration kLastReads = absl::Milliseconds(250);

void KeepForGood(std::unique_ptr<grpc::Server> server) {
  static auto* const kept = new std::vector<std::unique_ptr<grpc::Server>>;  // NOLINT(cppcoreguidelines-owning-memory)
  kept->push_back(std::move(server));
}

class RpcServerImpl final : public RpcServer {
 public:
  explicit RpcServerImpl(const RpcContext& context)
      : loop_(context.loop), socket_group_(context.socket_group), service_(context, peers_) {}
  // What is closed stays in memory: the library's own destructors wait for threads of its own to say that they have
  // ended, and for good where such a thread could not be made (too little memory, a limit of threads).
  ~RpcServerImpl() override {
    if (closer_.joinable()) {
      closer_.join();
    } else if (server_ != nullptr) {
      server_->Shutdown();
    }
    KeepForGood(std::move(server_));
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
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kLeastPingIntervalMs);
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
    closed_ = std::move(closed);
    give_up_ = loop_.NewTimer([this] {
      LogWarning("gRPC does not come to its end: what it still waits for is given up");
      mailbox_.Close();
      closed_();
    });
    give_up_->ArmAfter(kLongestClose);
    closer_ = std::thread([this] {
      server_->Shutdown();
      mailbox_.Post([this] {
        give_up_->Disarm();
        is_closed_ = true;
        closed_();
      });
    });
  }

  bool IsClosed() const override { return is_closed_; }

 private:
  // Clients share the reserve with all else that comes and goes. Near its end one that has asked nothing makes room; an
  // answer "no" is better than none, so where there is none such the new one is hung up on.
  bool HasRoom() {
    constexpr uint64_t kLast = 16;
    const std::optional<uint64_t> open = OpenDescriptors();
    return !open || *open + kLast <= DescriptorLimit() || peers_.HangUpSilent();
  }

  void OnConnection(UniqueFd accepted) {
    const std::shared_ptr<UniqueFd> connection = ClosedAside(std::move(accepted));
    if (!HasRoom()) {
      LogWarning("connection refused: nearly all file descriptors are in use",
                 {{"limit", std::to_string(DescriptorLimit())}});
    } else if (absl::Status status = Serve(*connection); !status.ok()) {
      LogWarning("connection refused", {{"error", std::string(status.message())}});
    }
  }

  // Takes the connection unless it fails.
  absl::Status Serve(UniqueFd& connection) {
    const absl::StatusOr<Peer> peer = PeerOf(connection.get());
    if (!peer.ok()) {
      return peer.status();
    }
    if (!IsAllowedToAct(*peer, socket_group_)) {
      absl::StatusOr<UniqueFd> relayed = gate_.Admit(UniqueFd(connection.Release()), peer->uid);
      if (!relayed.ok()) {
        return relayed.status();
      }
      connection = *std::move(relayed);
    }
    absl::StatusOr<UniqueFd> registered = peers_.Register(UniqueFd(connection.Release()), *peer);
    if (!registered.ok()) {
      return registered.status();
    }
    grpc::AddInsecureChannelFromFd(server_.get(), registered->Release());
    return absl::OkStatus();
  }

  Loop& loop_;
  const std::optional<gid_t> socket_group_;
  Peers peers_;
  ReaderGate gate_{ReaderGate::Limits{}};
  SupervisorService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Loop::Timer> last_reads_;
  std::unique_ptr<Loop::Timer> last_answers_;
  std::function<void()> closed_;
  bool is_closed_ = false;
  std::unique_ptr<Loop::Timer> give_up_;
  LoopMailbox mailbox_{&loop_};
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
