#include "tests/ctl/fake_supervisor.h"

#include <fcntl.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cstring>
#include <utility>

namespace supervisor {
namespace {

template <class Handler, class... Arguments>
grpc::Status Answer(const Handler& handler, Arguments&&... arguments) {
  return handler ? handler(std::forward<Arguments>(arguments)...) : grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
}

UniqueFd Listen(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  assert(path.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  unlink(path.c_str());
  [[maybe_unused]] const int bound =
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));  // NOLINT: what bind(2) asks for
  assert(bound == 0);
  listen(fd.get(), 64);
  return fd;
}

}  // namespace

grpc::Status FakeAnswers::Status(grpc::ServerContext* /*context*/, const v1::StatusRequest* request,
                                 v1::StatusResponse* response) {
  return Answer(status, *request, response);
}
grpc::Status FakeAnswers::Start(grpc::ServerContext* /*context*/, const v1::ActionRequest* request,
                                v1::ActionResponse* response) {
  return Answer(start, *request, response);
}
grpc::Status FakeAnswers::Stop(grpc::ServerContext* /*context*/, const v1::ActionRequest* request,
                               v1::ActionResponse* response) {
  return Answer(stop, *request, response);
}
grpc::Status FakeAnswers::Restart(grpc::ServerContext* /*context*/, const v1::ActionRequest* request,
                                  v1::ActionResponse* response) {
  return Answer(restart, *request, response);
}
grpc::Status FakeAnswers::Signal(grpc::ServerContext* /*context*/, const v1::SignalRequest* request,
                                 v1::ActionResponse* response) {
  return Answer(signal, *request, response);
}
grpc::Status FakeAnswers::Logs(grpc::ServerContext* context, const v1::LogsRequest* request,
                               grpc::ServerWriter<v1::LogChunk>* writer) {
  return Answer(logs, *request, context, writer);
}
grpc::Status FakeAnswers::Health(grpc::ServerContext* /*context*/, const v1::HealthRequest* request,
                                 v1::HealthResponse* response) {
  return Answer(health, *request, response);
}
grpc::Status FakeAnswers::Events(grpc::ServerContext* context, const v1::EventsRequest* request,
                                 grpc::ServerWriter<v1::Event>* writer) {
  return Answer(events, *request, context, writer);
}
grpc::Status FakeAnswers::Summary(grpc::ServerContext* /*context*/, const v1::SummaryRequest* request,
                                  v1::SummaryResponse* response) {
  return Answer(summary, *request, response);
}
grpc::Status FakeAnswers::Explain(grpc::ServerContext* /*context*/, const v1::ExplainRequest* request,
                                  v1::ExplainResponse* response) {
  return Answer(explain, *request, response);
}
grpc::Status FakeAnswers::Reload(grpc::ServerContext* /*context*/, const v1::ReloadRequest* request,
                                 v1::ReloadResponse* response) {
  return Answer(reload, *request, response);
}
grpc::Status FakeAnswers::Metrics(grpc::ServerContext* /*context*/, const v1::MetricsRequest* request,
                                  v1::MetricsResponse* response) {
  return Answer(metrics, *request, response);
}
grpc::Status FakeAnswers::Alerts(grpc::ServerContext* /*context*/, const v1::AlertsRequest* request,
                                 v1::AlertsResponse* response) {
  return Answer(alerts, *request, response);
}
grpc::Status FakeAnswers::Shutdown(grpc::ServerContext* /*context*/, const v1::ShutdownRequest* request,
                                   v1::ShutdownResponse* response) {
  return Answer(shutdown, *request, response);
}
grpc::Status FakeAnswers::Upgrade(grpc::ServerContext* /*context*/, const v1::UpgradeRequest* request,
                                  v1::UpgradeResponse* response) {
  return Answer(upgrade, *request, response);
}
grpc::Status FakeAnswers::Version(grpc::ServerContext* /*context*/, const v1::VersionRequest* request,
                                  v1::VersionResponse* response) {
  return Answer(version, *request, response);
}

FakeSupervisor::FakeSupervisor(std::string socket, FakeAnswers* answers)
    : socket_(std::move(socket)), listener_(Listen(socket_)), wake_(eventfd(0, EFD_CLOEXEC)) {
  grpc::ServerBuilder builder;
  builder.RegisterService(answers);
  server_ = builder.BuildAndStart();
  acceptor_ = std::thread([this] { AcceptLoop(); });
}

void FakeSupervisor::AcceptLoop() {
  for (;;) {
    std::array<pollfd, 2> ready = {
        {{.fd = listener_.get(), .events = POLLIN, .revents = 0}, {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
    if (poll(ready.data(), ready.size(), -1) < 0) {
      continue;
    }
    if (ready[1].revents != 0) {
      return;
    }
    UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) {
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      connections_.emplace_back(fcntl(connection.get(), F_DUPFD_CLOEXEC, 3));
    }
    grpc::AddInsecureChannelFromFd(server_.get(), connection.Release());
  }
}

void FakeSupervisor::DropConnections() {
  const std::lock_guard lock(mutex_);
  for (const UniqueFd& connection : connections_) {
    ::shutdown(connection.get(), SHUT_RDWR);
  }
  connections_.clear();
}

void FakeSupervisor::StopListening() {
  const std::lock_guard lock(listening_mutex_);
  if (acceptor_.joinable()) {
    eventfd_write(wake_.get(), 1);
    acceptor_.join();
  }
  listener_.Reset();
  unlink(socket_.c_str());
}

FakeSupervisor::~FakeSupervisor() {
  StopListening();
  DropConnections();
  server_->Shutdown(gpr_now(GPR_CLOCK_MONOTONIC));
  server_->Wait();
}

}  // namespace supervisor
