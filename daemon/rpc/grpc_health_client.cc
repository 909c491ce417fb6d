#include "daemon/rpc/grpc_health_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
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
  std::atomic<bool> is_cancelled = false;
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

// Two threads, which begin with the first request. One asks and cancels, so that nobody waits while gRPC builds a
// connection or takes it down: that costs more than all else of a check. The other waits for answers. (Not by gRPC's
// callbacks: in 1.51 the queue behind those is freed with the process's last channel, also where that goes within such
// a callback, and then under the feet of its own thread.)
class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  // All requests have been cancelled before.
  ~Client() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_one();
    if (asker_.joinable()) {
      asker_.join();
    }
    queue_.Shutdown();
    if (waiter_.joinable()) {
      waiter_.join();
    }
  }

  std::function<void()> Ask(const Checker::GrpcRequest& request, std::function<void(Checker::GrpcAnswer)> done) {
    if (!StartThreads()) {
      done({.message = "the check did not run: no thread for it can be made"});
      return [] {};
    }
    auto call = std::make_shared<Call>();
    call->request.set_service(request.service);
    call->done = std::move(done);
    Later([this, request, call] { Begin(request, call); });
    return [this, call] {
      call->is_cancelled = true;
      Later([call] { call->context.TryCancel(); });
    };
  }

 private:
  bool StartThreads() {
    if (!waiter_.joinable()) {
      waiter_ = StartQuietThread([this] { Wait(); });
    }
    if (waiter_.joinable() && !asker_.joinable()) {
      asker_ = StartQuietThread([this] { Work(); });
    }
    return asker_.joinable();
  }

  void Later(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      work_.push_back(std::move(work));
    }
    changed_.notify_one();
  }

  // The asker's thread, until all is done that was to be done.
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return closed_ || !work_.empty(); });
      if (work_.empty()) {
        return;
      }
      std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      work();
      work = nullptr;  // with what it held, a connection perhaps
      lock.lock();
    }
  }

  void Begin(const Checker::GrpcRequest& request, const std::shared_ptr<Call>& call) {
    if (call->is_cancelled) {
      return;
    }
    call->stub = health::Health::NewStub(Connect(request));
    call->reader = call->stub->AsyncCheck(&call->context, call->request, &queue_);
    const std::lock_guard lock(mutex_);  // until it is known, it may not be answered
    calls_.emplace(call.get(), call);
    call->reader->Finish(&call->response, &call->status, call.get());
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
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool closed_ = false;
  std::map<void*, std::shared_ptr<Call>> calls_;  // under way, by their tag

  std::thread asker_;
  std::thread waiter_;
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

std::unique_ptr<Checker> MakeChecker(Checker::Options options) {
  auto checker = std::make_unique<Checker>(std::move(options));
  checker->SetGrpcProbe(GrpcHealthClient());
  return checker;
}

}  // namespace supervisor
