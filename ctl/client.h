#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "ctl/failure.h"
#include "ctl/invocation.h"
#include "supervisor/v1/supervisor.grpc.pb.h"

namespace supervisor {

// What a call's status means to whoever called. `what` is the command, as in "upgrade".
Failure ToFailure(const grpc::Status& status, std::string_view what);

// The connection to the daemon. Connects the socket itself and hands it to gRPC: so errno says exactly why a daemon
// cannot be reached, any path works, and no resolver and no balancer need to start (measured: 0.2 ms of 3.2).
//
// Calls that only read are tried again when the daemon is replaced under them; calls that act are not, since nobody
// knows how far they came: those fail with "daemon restarted" once the next one answers. One thread.
class Client {
 public:
  using Stub = v1::Supervisor::Stub;
  template <class Request, class Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  explicit Client(const Invocation& invocation);

  // Waits a little only where the pid file shows that a daemon is alive: it is being replaced.
  std::optional<Failure> Connect();
  // After a lost connection: for at most as long as a crash or an upgrade takes. Shorter when no daemon is alive.
  std::optional<Failure> Reconnect();

  // Connects as needed.
  template <class Request, class Response>
  std::optional<Failure> Read(Method<Request, Response> method, const Request& request, Response* response,
                              std::string_view what) {
    std::optional<Failure> failure = connected() ? std::nullopt : Connect();
    const absl::Duration give_up_at = RetryDeadline();
    while (!failure) {
      grpc::ClientContext context;
      SetDeadline(context, kReadTimeout);
      response->Clear();
      const grpc::Status status = (stub_.get()->*method)(&context, request, response);
      if (status.ok()) {
        return std::nullopt;
      }
      failure = AfterFailedRead(status, what, give_up_at);
    }
    return failure;
  }

  // `timeout`: InfiniteDuration waits as long as it takes.
  template <class Request, class Response>
  std::optional<Failure> Act(Method<Request, Response> method, const Request& request, Response* response,
                             std::string_view what, absl::Duration timeout) {
    if (!connected()) {
      if (std::optional<Failure> failure = Connect()) {
        return failure;
      }
    }
    grpc::ClientContext context;
    SetDeadline(context, timeout);
    const grpc::Status status = (stub_.get()->*method)(&context, request, response);
    if (status.ok()) {
      return std::nullopt;
    }
    return ConnectionLost(status) ? LostWhileActing(what) : ToFailure(status, what);
  }

  // For calls that end or replace the daemon: to lose the connection is how they go well. That is unreachable then.
  template <class Request, class Response>
  std::optional<Failure> ActToTheEnd(Method<Request, Response> method, const Request& request, Response* response,
                                     std::string_view what, absl::Duration timeout) {
    grpc::ClientContext context;
    SetDeadline(context, timeout);
    const grpc::Status status = (stub_.get()->*method)(&context, request, response);
    if (status.ok()) {
      return std::nullopt;
    }
    return ConnectionLost(status) ? EndedWhileActing(what) : ToFailure(status, what);
  }

  bool connected() const { return channel_ != nullptr; }
  // For streams: the caller opens them and, when IsTransient(status), reconnects.
  Stub& stub() { return *stub_; }
  // The connection broke, or the daemon is on its way out: trying again may help.
  bool IsTransient(const grpc::Status& status) const;
  bool ConnectionLost(const grpc::Status& status) const;

  // Whether somebody listens at the socket; leaves the connection in use alone.
  bool SomebodyListens() const;

  const std::string& socket() const { return socket_; }

  static constexpr absl::Duration kReadTimeout = absl::Seconds(20);

 private:
  static void SetDeadline(grpc::ClientContext& context, absl::Duration timeout);
  static absl::Duration RetryDeadline();
  // Nothing: connected again, the caller may call once more.
  std::optional<Failure> AfterFailedRead(const grpc::Status& status, std::string_view what, absl::Duration give_up_at);
  static Failure EndedWhileActing(std::string_view what);
  // The same, where a next daemon may have come: waits for it, and says whether it has.
  Failure LostWhileActing(std::string_view what);
  std::optional<Failure> ConnectWithin(absl::Duration when_alive, absl::Duration when_gone);
  // 0 or errno; `refused`: somebody else listens there, and nothing was sent.
  int ConnectOnce(std::optional<Failure>& refused);

  std::string socket_;
  bool socket_is_default_;
  UniqueFd watched_;  // a duplicate of the channel's socket, to see whether the other end is gone
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Stub> stub_;
};

}  // namespace supervisor
