#include "daemon/rpc/reader_gate.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/close_aside.h"
#include "common/diag_log.h"
#include "common/errno_status.h"
#include "common/refuse_rights.h"
#include "common/signals_blocked.h"
#include "daemon/loop/loop.h"
#include "daemon/rpc/http2_frames.h"

namespace supervisor {
namespace {

constexpr size_t kBufferBytes = 16u << 10;
constexpr double kBytesOfAFrame = 4096;
constexpr absl::Duration kPause = absl::Milliseconds(50);
constexpr absl::Duration kTellAgain = absl::Minutes(1);

// One direction of a relayed connection. Is filled only when it is empty, so neither side can make it grow.
class Pipe {
 public:
  bool empty() const { return begin_ == end_; }
  bool at_end() const { return at_end_; }

  // What was read; empty where there is nothing now.
  std::string_view ReadFrom(int fd) { return Holds(read(fd, bytes_.data(), bytes_.size())); }

  // The same; nothing is read and nullopt returned where descriptors were sent along: whoever reads those bytes closes
  // them, which may wait. A look ends with the first message that has some, and where there is no room for them
  // MSG_CTRUNC tells of it: recvmsg(2), unix(7).
  std::optional<std::string_view> ReadUnlessRights(int fd) {
    iovec part{bytes_.data(), bytes_.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t there = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
    if (there > 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
      return std::nullopt;
    }
    return Holds(there > 0 ? read(fd, bytes_.data(), static_cast<size_t>(there)) : there);
  }

  // False: the other end is gone.
  bool WriteTo(int fd) {
    while (!empty()) {
      const ssize_t sent = send(fd, bytes_.data() + begin_, end_ - begin_, MSG_NOSIGNAL);
      if (sent < 0) {
        return errno == EAGAIN || errno == EINTR;
      }
      begin_ += static_cast<size_t>(sent);
    }
    return true;
  }

 private:
  // `got` is what read(2) has returned for bytes_.
  std::string_view Holds(ssize_t got) {
    at_end_ = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    begin_ = 0;
    end_ = got > 0 ? static_cast<size_t>(got) : 0;
    return {bytes_.data(), end_};
  }

  std::array<char, kBufferBytes> bytes_{};
  size_t begin_ = 0;
  size_t end_ = 0;
  bool at_end_ = false;
};

struct User {
  User(uid_t of, double burst) : uid(of), frames_left(burst) {}
  uid_t uid;
  double frames_left;                 // negative: nothing is read until it no longer is
  MonoTime counted = MonotonicNow();  // when frames_left was right
  size_t connections = 0;
  size_t open_streams = 0;
  size_t request_bytes = 0;
  MonoTime told;  // when the log was told of it
};

struct Relay {
  std::shared_ptr<UniqueFd> client;  // closed aside
  bool takes_rights = true;          // the kernel cannot refuse descriptors that the client sends along
  UniqueFd server;
  User* user = nullptr;
  Pipe to_server;
  Pipe to_client;
  Http2Frames from_client{Http2Frames::From::kClient};
  Http2Frames from_server{Http2Frames::From::kServer};
  std::map<uint32_t, size_t> streams;  // that are open: the bytes of each request
  bool server_told_end = false;
  std::unique_ptr<Loop::Watch> client_watch;
  std::unique_ptr<Loop::Watch> server_watch;
};

}  // namespace

class ReaderGate::Impl {
 public:
  explicit Impl(const Limits& limits) : limits_(limits), pause_(loop_.NewTimer([this] { PumpAll(); })) {
    const SignalsBlocked blocked;
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "rpc-readers");
      loop_.Run();
    });
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    loop_.Post([this] {
      relays_.clear();
      loop_.Stop();
    });
    thread_.join();
  }

  void Admit(std::shared_ptr<UniqueFd> client, UniqueFd server, uid_t uid) {
    // A std::function must be copyable, and a UniqueFd is not.
    auto end = std::make_shared<UniqueFd>(std::move(server));
    loop_.Post([this, client = std::move(client), end, uid] { Begin(client, std::move(*end), uid); });
  }

 private:
  using RelayAt = std::list<Relay>::iterator;

  void Begin(std::shared_ptr<UniqueFd> client, UniqueFd server, uid_t uid) {
    User& user = users_.try_emplace(uid, uid, limits_.burst_frames).first->second;
    if (user.connections >= limits_.connections) {
      Tell(user, "connection refused: this user, who may only look, has too many");
      return;
    }
    ++user.connections;
    const RelayAt relay = relays_.emplace(relays_.end());
    relay->takes_rights = !RefusesRights(client->get());
    relay->client = std::move(client);
    relay->server = std::move(server);
    relay->user = &user;
    Pump(relay);
  }

  void PumpAll() {
    for (auto relay = relays_.begin(); relay != relays_.end();) {
      Pump(relay++);
    }
  }

  // Moves what can be moved, and watches for what cannot. The relay may be gone afterwards.
  void Pump(RelayAt relay) {
    Refill(*relay->user);
    if (relay->to_server.empty() && !relay->to_server.at_end() && relay->user->frames_left >= 0) {
      const std::optional<std::string_view> bytes = relay->takes_rights
                                                        ? relay->to_server.ReadUnlessRights(relay->client->get())
                                                        : relay->to_server.ReadFrom(relay->client->get());
      if (!bytes) {
        Tell(*relay->user, "descriptors were sent along: the connection is closed");
        End(relay);
        return;
      }
      relay->from_client.Feed(*bytes, [&](const Http2Frames::Frame& frame) { FromClient(*relay, frame); });
    }
    if (relay->to_client.empty() && !relay->to_client.at_end()) {
      const std::string_view bytes = relay->to_client.ReadFrom(relay->server.get());
      relay->from_server.Feed(bytes, [&](const Http2Frames::Frame& frame) { FromServer(*relay, frame); });
    }
    const char* const beyond = relay->user->open_streams > limits_.open_streams     ? "too many calls at once"
                               : relay->user->request_bytes > limits_.request_bytes ? "requests that are too large"
                                                                                    : nullptr;
    if (beyond != nullptr && !relay->streams.empty()) {
      Tell(*relay->user, beyond);
      End(relay);
      return;
    }
    const bool is_whole =
        relay->to_server.WriteTo(relay->server.get()) && relay->to_client.WriteTo(relay->client->get());
    if (!is_whole || (relay->to_client.at_end() && relay->to_client.empty())) {
      End(relay);
      return;
    }
    if (relay->to_server.at_end() && relay->to_server.empty() && !std::exchange(relay->server_told_end, true)) {
      shutdown(relay->server.get(), SHUT_WR);
    }
    const bool is_held = relay->user->frames_left < 0;
    if (is_held) {
      Tell(*relay->user, "more frames than are read from a user who may only look: it is read more slowly");
      pause_->ArmAfter(kPause);
    }
    Watch(relay, relay->client_watch, relay->client->get(),
          relay->to_server.empty() && !relay->to_server.at_end() && !is_held, !relay->to_client.empty());
    Watch(relay, relay->server_watch, relay->server.get(), relay->to_client.empty() && !relay->to_client.at_end(),
          !relay->to_server.empty());
  }

  void Watch(RelayAt relay, std::unique_ptr<Loop::Watch>& watch, int fd, bool reads, bool writes) {
    if (!reads && !writes) {
      watch.reset();
      return;
    }
    const Loop::Interest interest = reads && writes ? Loop::Interest::kReadWrite
                                    : reads         ? Loop::Interest::kRead
                                                    : Loop::Interest::kWrite;
    if (watch != nullptr) {
      watch->SetInterest(interest);
    } else {
      watch = loop_.WatchFd(fd, interest, [this, relay](Loop::Ready) { Pump(relay); });
    }
  }

  void FromClient(Relay& relay, const Http2Frames::Frame& frame) {
    User& user = *relay.user;
    user.frames_left -= 1 + frame.length / kBytesOfAFrame;
    if (frame.Is(Http2Frames::Type::kHeaders)) {
      user.open_streams += relay.streams.emplace(frame.stream, 0).second ? 1 : 0;
    } else if (frame.Is(Http2Frames::Type::kResetStream)) {
      Close(relay, frame.stream);
    } else if (const auto stream = relay.streams.find(frame.stream);
               frame.Is(Http2Frames::Type::kData) && stream != relay.streams.end()) {
      stream->second += frame.length;
      user.request_bytes += frame.length;
    }
  }

  void FromServer(Relay& relay, const Http2Frames::Frame& frame) {
    const bool may_end = frame.Is(Http2Frames::Type::kHeaders) || frame.Is(Http2Frames::Type::kData);
    if (frame.Is(Http2Frames::Type::kResetStream) || (may_end && frame.EndsStream())) {
      Close(relay, frame.stream);
    }
  }

  static void Close(Relay& relay, uint32_t id) {
    if (const auto stream = relay.streams.find(id); stream != relay.streams.end()) {
      relay.user->open_streams -= 1;
      relay.user->request_bytes -= stream->second;
      relay.streams.erase(stream);
    }
  }

  void End(RelayAt relay) {
    while (!relay->streams.empty()) {
      Close(*relay, relay->streams.begin()->first);
    }
    --relay->user->connections;
    relay->client_watch.reset();
    relay->server_watch.reset();
    relays_.erase(relay);
  }

  void Refill(User& user) const {
    const MonoTime now = MonotonicNow();
    user.frames_left = std::min(
        limits_.burst_frames, user.frames_left + absl::ToDoubleSeconds(now - user.counted) * limits_.frames_per_second);
    user.counted = now;
  }

  static void Tell(User& user, const char* what) {
    const MonoTime now = MonotonicNow();
    if (user.told == MonoTime() || now - user.told >= kTellAgain) {
      user.told = now;
      LogWarning("a bound on the control socket is reached", {{"uid", std::to_string(user.uid)}, {"what", what}});
    }
  }

  const Limits limits_;
  Loop loop_;
  std::map<uid_t, User> users_;
  std::list<Relay> relays_;
  std::unique_ptr<Loop::Timer> pause_;
  std::thread thread_;
};

ReaderGate::ReaderGate(const Limits& limits) : limits_(limits) {}

ReaderGate::~ReaderGate() = default;

absl::StatusOr<UniqueFd> ReaderGate::Admit(UniqueFd client, uid_t user) {
  std::shared_ptr<UniqueFd> closed_aside = ClosedAside(std::move(client));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return ErrnoToStatus(errno, "a socket pair");
  }
  UniqueFd server(ends[0]);
  UniqueFd own(ends[1]);
  if (impl_ == nullptr) {
    impl_ = std::make_unique<Impl>(limits_);
  }
  impl_->Admit(std::move(closed_aside), std::move(own), user);
  return server;
}

}  // namespace supervisor
