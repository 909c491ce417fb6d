#include "daemon/rpc/grpc_health_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "daemon/loop/quiet_thread.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace supervisor {
namespace {

namespace health = grpc::health::v1;

constexpr int kMostAnswerBytes = 64 << 10;

// One request; lives until gRPC has answered and the checker has let go of it.
struct Call {
  grpc::ClientContext context;
  health::HealthCheckRequest request;
  health::HealthCheckResponse response;
  grpc::Status status;
  std::function<void(Checker::GrpcAnswer)> done;
  std::unique_ptr<health::Health::Stub> stub;
  std::unique_ptr<grpc::ClientAsyncResponseReader<health::HealthCheckResponse>> reader;
};

std::shared_ptr<grpc::Channel> Connect(const Checker::GrpcRequest& request) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // else it would share another check's connection
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, request.authority);
  arguments.SetMaxReceiveMessageSize(kMostAnswerBytes);
  return grpc::CreateCustomChannel(request.address, grpc::InsecureChannelCredentials(), arguments);
}

// gRPC says "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote
// host: Connection refused".
std::string Reason(const std::string& message) {
  for (const auto& [theirs, ours] : {std::pair("Connection refused", "connection refused"),
                                     std::pair("No such file or directory", "no such file or directory"),
                                     std::pair("Permission denied", "permission denied"),
                                     std::pair("Failed parsing HTTP/2", "the answer is not gRPC"),
                                     std::pair("last error: OK", "connection closed: not gRPC?"),
                                     std::pair("Socket closed", "connection closed without an answer")}) {
    if (message.find(theirs) != std::string::npos) {
      return ours;
    }
  }
  return message;
}

Checker::GrpcAnswer Failure(const grpc::Status& status, const std::string& service) {
  const std::string name = service.empty() ? "the server as a whole" : fmt::format("the service \"{}\"", service);
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE: {
      const bool connected = status.error_message().find("failed to connect") == std::string::npos;
      return {.connected = connected, .message = Reason(status.error_message())};
    }
    case grpc::StatusCode::NOT_FOUND:
      return {.message = fmt::format("the server tells no health of {} (NOT_FOUND)", name)};
    case grpc::StatusCode::UNIMPLEMENTED:
      return {.message = "the server does not offer grpc.health.v1.Health (UNIMPLEMENTED)"};
    default:
      return {.message =
                  fmt::format("gRPC status {}: {}", static_cast<int>(status.error_code()), status.error_message())};
  }
}

Checker::GrpcAnswer AnswerOf(const Call& call) {
  if (!call.status.ok()) {
    return Failure(call.status, call.request.service());
  }
  const auto serving = call.response.status();
  const std::string& name = health::HealthCheckResponse::ServingStatus_Name(serving);
  return {.success = serving == health::HealthCheckResponse::SERVING,
          .message = name.empty() ? fmt::format("unknown serving status {}", static_cast<int>(serving)) : name};
}

// Waits for answers on a thread of its own, which begins with the first request. (Not by gRPC's callbacks: in 1.51 the
// queue behind those is freed with the process's last channel, also where that goes within such a callback, and then
// under the feet of its own thread.)
class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  // All requests have been cancelled before.
  ~Client() {
    queue_.Shutdown();
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  std::function<void()> Ask(const Checker::GrpcRequest& request, std::function<void(Checker::GrpcAnswer)> done) {
    if (!StartThread()) {
      done({.message = "the check did not run: no thread for it can be made"});
      return [] {};
    }
    auto call = std::make_shared<Call>();
    call->request.set_service(request.service);
    call->done = std::move(done);
    call->stub = health::Health::NewStub(Connect(request));
    call->reader = call->stub->AsyncCheck(&call->context, call->request, &queue_);
    const std::lock_guard lock(mutex_);  // until it is known, it may not be answered
    calls_.emplace(call.get(), call);
    call->reader->Finish(&call->response, &call->status, call.get());
    return [call] { call->context.TryCancel(); };
  }

 private:
  bool StartThread() {
    if (thread_.joinable()) {
      return true;
    }
    thread_ = StartQuietThread([this] { Wait(); });
    return thread_.joinable();
  }

  void Wait() {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      const std::shared_ptr<Call> call = Take(tag);
      call->done(AnswerOf(*call));
    }
  }

  std::shared_ptr<Call> Take(void* tag) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Call> call = std::move(calls_[tag]);
    calls_.erase(tag);
    return call;
  }

  grpc::CompletionQueue queue_;
  std::mutex mutex_;
  std::map<void*, std::shared_ptr<Call>> calls_;  // under way, by their tag
  std::thread thread_;
};

}  // namespace

Checker::GrpcProbe GrpcHealthClient() {
  // Made by the first request: who makes none starts no part of gRPC.
  return [client = std::make_shared<std::optional<Client>>()](const Checker::GrpcRequest& request,
                                                              std::function<void(Checker::GrpcAnswer)> done) {
    if (!client->has_value()) {
      client->emplace();
    }
    return (*client)->Ask(request, std::move(done));
  };
}

std::unique_ptr<Checker> MakeChecker() {
  auto checker = std::make_unique<Checker>();
  checker->SetGrpcProbe(GrpcHealthClient());
  return checker;
}

}  // namespace supervisor
