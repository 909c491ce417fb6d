#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/unique_fd.h"
#include "daemon/health/probe.h"
#include "daemon/health/text.h"

namespace supervisor {
namespace {

constexpr size_t kBannerBytes = 4 << 10;
constexpr absl::Duration kNextAddressAfter = absl::Milliseconds(250);  // RFC 8305's advice
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

// A port of this machine's ephemeral range that nobody listens on can be connected to itself (TCP's simultaneous
// open), which looks like a server that answers.
bool IsConnectedToItself(int fd) {
  sockaddr_storage own{};
  sockaddr_storage peer{};
  socklen_t own_length = sizeof own;
  socklen_t peer_length = sizeof peer;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_length) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) == 0 && own_length == peer_length &&
         std::memcmp(&own, &peer, own_length) == 0;
}

// A TCP connection, and a banner where one is expected. Of several addresses the first to answer counts; each is given
// a head start. Plain sockets: a daemon without http checks never loads libcurl.
class TcpProbe final : public Probe {
 public:
  TcpProbe(ProbeTools& tools, ProbeRequest request)
      : tools_(tools), request_(std::move(request)), matcher_(request_.config, kBannerBytes) {}
  TcpProbe(const TcpProbe&) = delete;
  TcpProbe& operator=(const TcpProbe&) = delete;
  ~TcpProbe() override { EndAll(); }

  void Begin() override {
    began_ = MonotonicNow();
    if (!matcher_.error().empty()) {
      Fail(matcher_.error());
      return;
    }
    stagger_ = tools_.loop.NewTimer([this] { TryNext(); });
    query_ = tools_.resolver.Resolve(request_.config.host, [this](absl::StatusOr<AddressList> addresses) {
      if (!addresses.ok()) {
        Fail(std::string(addresses.status().message()));
        return;
      }
      addresses_ = *std::move(addresses);
      TryNext();
    });
  }

  void DeadlinePassed() override {
    const std::string doing = !shortage_.empty()   ? shortage_
                              : addresses_.empty() ? fmt::format("resolving {}", request_.config.host)
                              : connected_ == nullptr
                                  ? fmt::format("connecting to {}:{}", request_.config.host, request_.config.port)
                                  : BannerFailure();
    request_.finish({.message = fmt::format("timed out after {} ({})", DurationText(request_.config.timeout), doing),
                     .timed_out = true});
    EndAll();
  }

 private:
  struct Attempt {
    UniqueFd fd;
    std::string address;
    std::unique_ptr<Loop::Watch> watch;  // after fd, so destroyed before it
  };

  // 0 when it is connected at once, EINPROGRESS, or what went wrong.
  static int Open(const SocketAddress& address, UniqueFd& fd) {
    fd.Reset(socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd && connect(fd.get(), address.get(), address.length) == 0) {
      return 0;
    }
    return errno;
  }

  void TryNext() {
    while (next_ < addresses_.size()) {
      const SocketAddress address = addresses_[next_].WithPort(request_.config.port);
      Attempt attempt{.fd = UniqueFd(), .address = address.ToString(), .watch = nullptr};
      const int error = Open(address, attempt.fd);
      if (!attempt.fd && IsOwnShortage(error)) {
        shortage_ = fmt::format("this daemon cannot make a socket: {}", ErrnoPhrase(error));
        stagger_->ArmAfter(kRetryAfter);
        return;
      }
      shortage_.clear();
      ++next_;
      if (error == 0) {
        attempts_.push_back(std::move(attempt));
        OnConnected(attempts_.back());
        return;
      }
      if (error == EINPROGRESS) {
        Await(std::move(attempt));
        return;
      }
      NoteFailure(error, attempt.address);  // such as no IPv6 on this machine
    }
    if (attempts_.empty()) {
      Fail(last_failure_);
    }
  }

  void Await(Attempt attempt) {
    attempts_.push_back(std::move(attempt));
    Attempt& pending = attempts_.back();
    pending.watch = tools_.loop.WatchFd(pending.fd.get(), Loop::Interest::kWrite,
                                        [this, &pending](Loop::Ready /*ready*/) { OnReady(pending); });
    if (next_ < addresses_.size()) {
      stagger_->ArmAfter(kNextAddressAfter);
    }
  }

  void OnReady(Attempt& attempt) {
    if (connected_ == &attempt) {
      ReadBanner();
      return;
    }
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(attempt.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
      error = errno;
    }
    if (error == 0 && IsConnectedToItself(attempt.fd.get())) {
      error = ECONNREFUSED;
    }
    if (error == 0) {
      OnConnected(attempt);
      return;
    }
    NoteFailure(error, attempt.address);
    attempts_.remove_if([&attempt](const Attempt& other) { return &other == &attempt; });
    TryNext();
  }

  void OnConnected(Attempt& attempt) {
    stagger_->Disarm();
    for (Attempt& other : attempts_) {
      if (&other != &attempt) {
        EndInOrder(other);
      }
    }
    attempts_.remove_if([&attempt](const Attempt& other) { return &other != &attempt; });
    connected_ = &attempt;
    if (!matcher_.expects_anything()) {
      Succeed("connected to");
      return;
    }
    attempt.watch.reset();
    attempt.watch =
        tools_.loop.WatchFd(attempt.fd.get(), Loop::Interest::kRead, [this](Loop::Ready /*ready*/) { ReadBanner(); });
  }

  void ReadBanner() {
    std::array<char, kBannerBytes> chunk{};
    while (true) {
      const ssize_t count = recv(connected_->fd.get(), chunk.data(), chunk.size(), 0);
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0 && errno == EAGAIN) {
        return;
      }
      if (count < 0) {
        Fail(fmt::format("{} ({}): {}", ErrnoPhrase(errno), connected_->address, BannerFailure()));
        return;
      }
      if (count == 0) {
        Fail(fmt::format("{} closed the connection: {}", connected_->address, BannerFailure()));
        return;
      }
      const std::string_view piece(chunk.data(), static_cast<size_t>(count));
      matcher_.Append(piece);
      banner_.append(piece.substr(0, kBannerBytes - std::min(kBannerBytes, banner_.size())));
      if (matcher_.Matches()) {
        Succeed("expected banner from");
        return;
      }
      if (matcher_.full()) {
        Fail(BannerFailure());
        return;
      }
    }
  }

  std::string BannerFailure() const {
    return fmt::format("{}; got {}", matcher_.Failure("banner").value_or("no banner"), QuotedExcerpt(banner_));
  }

  void NoteFailure(int error, const std::string& address) {
    last_failure_ = fmt::format("{} ({})", ErrnoPhrase(error), address);
  }

  void Succeed(std::string_view what) {
    request_.finish(
        {.success = true,
         .message = fmt::format("{} {} in {}", what, connected_->address, DurationText(MonotonicNow() - began_))});
    EndAll();  // frees the port's other end now, not a turn later
  }

  void Fail(std::string message) {
    request_.finish({.message = std::move(message)});
    EndAll();
  }

  // A server that speaks first may have sent something that nobody has read, or be about to.
  void EndInOrder(Attempt& attempt) {
    attempt.watch.reset();
    tools_.closer.End(std::move(attempt.fd));
  }

  void EndAll() {
    for (Attempt& attempt : attempts_) {
      EndInOrder(attempt);
    }
    attempts_.clear();
  }

  ProbeTools& tools_;
  ProbeRequest request_;
  ContentMatcher matcher_;
  MonoTime began_;
  AddressList addresses_;
  size_t next_ = 0;
  std::list<Attempt> attempts_;
  Attempt* connected_ = nullptr;
  std::string banner_;
  std::string last_failure_;
  std::string shortage_;
  std::unique_ptr<Loop::Timer> stagger_;
  std::shared_ptr<Resolver::Query> query_;
};

}  // namespace

std::unique_ptr<Probe> NewTcpProbe(ProbeTools& tools, ProbeRequest request) {
  return std::make_unique<TcpProbe>(tools, std::move(request));
}

}  // namespace supervisor
