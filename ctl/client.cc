#include "ctl/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/support/channel_arguments.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/clock.h"
#include "ctl/socket_owner.h"
#include "ctl/unreachable.h"

namespace supervisor {
namespace {

// A daemon that crashed or upgrades is back within a second; a slow machine gets some more.
constexpr absl::Duration kPatienceWhenAlive = absl::Seconds(10);
constexpr absl::Duration kPatienceWhenGone = absl::Seconds(2);
constexpr absl::Duration kFirstConnectPatience = absl::Seconds(5);
constexpr absl::Duration kReadRetries = absl::Seconds(5);
constexpr absl::Duration kBetweenAttempts = absl::Milliseconds(50);
constexpr int kConnectTimeoutSeconds = 5;

void Pause(absl::Duration duration) { poll(nullptr, 0, static_cast<int>(absl::ToInt64Milliseconds(duration))); }

// Fills in the address. A path that does not fit goes through its directory's descriptor, which `directory` keeps open.
int MakeAddress(const std::string& path, sockaddr_un* address, UniqueFd* directory) {
  address->sun_family = AF_UNIX;
  std::string shown = path;
  if (path.size() >= sizeof(address->sun_path)) {
    const size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    directory->Reset(open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!*directory) {
      return errno;
    }
    shown = fmt::format("/proc/self/fd/{}/{}", directory->get(), path.substr(slash + 1));
  }
  if (shown.size() >= sizeof(address->sun_path)) {
    return ENAMETOOLONG;
  }
  std::memcpy(address->sun_path, shown.c_str(), shown.size() + 1);
  return 0;
}

int ConnectSocket(const std::string& path, UniqueFd* connected) {
  sockaddr_un address{};
  UniqueFd directory;
  if (const int error = MakeAddress(path, &address, &directory); error != 0) {
    return error;
  }
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    return errno;
  }
  // Bounds how long connect(2) waits for a place in the queue of a daemon that hangs: unix(7), socket(7).
  const timeval timeout{.tv_sec = kConnectTimeoutSeconds, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);  // NOLINT: what connect(2) asks for
  while (connect(fd.get(), generic, sizeof(address)) != 0) {
    if (errno != EINTR) {
      return errno;
    }
  }
  *connected = std::move(fd);
  return 0;
}

std::shared_ptr<grpc::Channel> MakeChannel(UniqueFd fd) {
  fcntl(fd.get(), F_SETFL, O_RDWR | O_NONBLOCK);  // gRPC asserts it
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_CENSUS, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 1);
  // The daemon bounds its answers; thousands of instances do not fit into the default of 4 MiB.
  arguments.SetMaxReceiveMessageSize(256 << 20);
  return grpc::CreateCustomInsecureChannelFromFd("supervisord", fd.Release(), arguments);
}

Failure Fail(ExitCode exit_code, std::string_view code, std::string message) {
  return {.exit_code = exit_code, .code = std::string(code), .message = std::move(message)};
}

}  // namespace

Failure ToFailure(const grpc::Status& status, std::string_view what) {
  const std::string text = status.error_message().empty() ? "the daemon gives no reason" : status.error_message();
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Fail(ExitCode::kUsage, "invalid_argument", text);
    case grpc::StatusCode::NOT_FOUND:
      return Fail(ExitCode::kNoSuchService, "not_found", text);
    case grpc::StatusCode::PERMISSION_DENIED:
      return Fail(ExitCode::kNotPermitted, "permission_denied", text);
    case grpc::StatusCode::UNAUTHENTICATED:
      return Fail(ExitCode::kNotPermitted, "unauthenticated", text);
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Fail(ExitCode::kTimedOut, "deadline_exceeded",
                  fmt::format("{}: timed out: the daemon did not answer in time; what was asked for may go on", what));
    case grpc::StatusCode::UNAVAILABLE:
      return Fail(ExitCode::kUnreachable, "unavailable", text);
    case grpc::StatusCode::UNIMPLEMENTED:
      return Fail(ExitCode::kFailed, "unimplemented",
                  fmt::format("the daemon does not support \"{}\"; see: supervisorctl version", what));
    case grpc::StatusCode::FAILED_PRECONDITION:
      return Fail(ExitCode::kFailed, "failed_precondition", text);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Fail(ExitCode::kFailed, "resource_exhausted", text);
    case grpc::StatusCode::ABORTED:
      return Fail(ExitCode::kFailed, "aborted", text);
    case grpc::StatusCode::ALREADY_EXISTS:
      return Fail(ExitCode::kFailed, "already_exists", text);
    case grpc::StatusCode::OUT_OF_RANGE:
      return Fail(ExitCode::kFailed, "out_of_range", text);
    case grpc::StatusCode::CANCELLED:
      return Fail(ExitCode::kFailed, "cancelled", text);
    case grpc::StatusCode::DATA_LOSS:
      return Fail(ExitCode::kFailed, "data_loss", text);
    case grpc::StatusCode::OK:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::DO_NOT_USE:
      break;
  }
  return Fail(ExitCode::kFailed, "internal", fmt::format("{}: {}", what, text));
}

Client::Client(const Invocation& invocation)
    : socket_(invocation.socket), socket_is_default_(invocation.socket_is_default) {}

int Client::ConnectOnce(std::optional<Failure>& refused) {
  UniqueFd fd;
  if (const int error = ConnectSocket(socket_, &fd); error != 0) {
    return error;
  }
  if (refused = CheckSocketOwner(fd.get(), socket_, socket_is_default_); refused) {
    return EPERM;
  }
  watched_.Reset(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  stub_.reset();
  channel_ = MakeChannel(std::move(fd));
  stub_ = v1::Supervisor::NewStub(channel_);
  return 0;
}

std::optional<Failure> Client::ConnectWithin(absl::Duration when_alive, absl::Duration when_gone) {
  const MonoTime start = MonotonicNow();
  absl::Duration pause = absl::Milliseconds(10);
  for (;;) {
    std::optional<Failure> refused;
    const int error = ConnectOnce(refused);
    if (refused) {
      return refused;
    }
    if (error == 0) {
      return std::nullopt;
    }
    const bool may_come_back = error == ENOENT || error == ECONNREFUSED;
    const absl::Duration patience = !may_come_back                                              ? absl::ZeroDuration()
                                    : FindDaemon(socket_).state == DaemonProcess::State::kAlive ? when_alive
                                                                                                : when_gone;
    if (MonotonicNow() - start >= patience) {
      return DescribeUnreachable(socket_, socket_is_default_, error);
    }
    Pause(pause);
    pause = std::min(pause * 2, absl::Milliseconds(50));
  }
}

std::optional<Failure> Client::Connect() { return ConnectWithin(kFirstConnectPatience, absl::ZeroDuration()); }

std::optional<Failure> Client::Reconnect() {
  Pause(kBetweenAttempts);  // a daemon that answers, but only to send us away, must not be asked without a break
  return ConnectWithin(kPatienceWhenAlive, kPatienceWhenGone);
}

bool Client::SomebodyListens() const {
  UniqueFd fd;
  return ConnectSocket(socket_, &fd) == 0;
}

void Client::SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  if (timeout != absl::InfiniteDuration()) {
    const gpr_timespec span =
        gpr_time_from_nanos(absl::ToInt64Nanoseconds(std::min(timeout, absl::Hours(24 * 365))), GPR_TIMESPAN);
    context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span));
  }
}

absl::Duration Client::RetryDeadline() { return MonotonicNow() + kReadRetries; }

bool Client::ConnectionLost(const grpc::Status& status) const {
  switch (status.error_code()) {
    case grpc::StatusCode::CANCELLED:
      return true;  // not by us: the daemon takes leave, and gRPC begins no call on this connection any more
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
      break;  // what gRPC reports of a broken connection, depending on when it breaks
    case grpc::StatusCode::OK:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::DO_NOT_USE:
      return false;
  }
  // gRPC closes its side too once it saw the end: that as well shows as a hang-up here.
  pollfd peer{.fd = watched_.get(), .events = POLLRDHUP, .revents = 0};
  return poll(&peer, 1, 0) > 0 && (static_cast<unsigned>(peer.revents) & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool Client::IsTransient(const grpc::Status& status) const {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE || ConnectionLost(status);
}

std::optional<Failure> Client::AfterFailedRead(const grpc::Status& status, std::string_view what,
                                               absl::Duration give_up_at) {
  if (!IsTransient(status) || MonotonicNow() >= give_up_at) {
    Failure failure = ToFailure(status, what);
    if (ConnectionLost(status)) {
      failure =
          Fail(ExitCode::kUnreachable, "unavailable",
               fmt::format("{}: the daemon at {} closes the connection: {}", what, socket_, status.error_message()));
    }
    return failure;
  }
  return Reconnect();
}

Failure Client::LostWhileActing(std::string_view what) {
  if (Reconnect()) {
    return EndedWhileActing(what);
  }
  return Fail(ExitCode::kFailed, "daemon_restarted",
              fmt::format("{}: daemon restarted before it answered; whether this was carried out is not known\n"
                          "The next daemon runs: look with \"supervisorctl status\", and ask again if need be.",
                          what));
}

Failure Client::EndedWhileActing(std::string_view what) {
  return Fail(ExitCode::kUnreachable, "unavailable",
              fmt::format("{}: the daemon ended or was replaced before it answered; how far it came is not known\n"
                          "Look with: supervisorctl status",
                          what));
}

}  // namespace supervisor
