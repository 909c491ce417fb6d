#include "daemon/rpc/reader_gate.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/passed_fd.h"

namespace supervisor {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr int kSoonMs = 20'000;

std::string FrameBytes(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) {
    bytes += static_cast<char>(payload.size() >> shift);
  }
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) {
    bytes += static_cast<char>(stream >> shift);
  }
  return bytes + payload;
}

std::string Headers(uint32_t stream) { return FrameBytes(1, 4, stream, "hpack"); }
std::string Data(uint32_t stream, size_t bytes) { return FrameBytes(0, 0, stream, std::string(bytes, 'd')); }
std::string Reset(uint32_t stream) { return FrameBytes(3, 0, stream, "code"); }
std::string Trailers(uint32_t stream) { return FrameBytes(1, 5, stream, "status"); }

// Both ends of a connection through the gate.
class Connection {
 public:
  Connection(ReaderGate& gate, uid_t user) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    client_.Reset(ends[0]);
    absl::StatusOr<UniqueFd> server = gate.Admit(UniqueFd(ends[1]), user);
    EXPECT_TRUE(server.ok()) << server.status();
    if (server.ok()) {
      server_ = *std::move(server);
    }
  }

  // What arrives at the other end until there are `bytes` of it, or it is closed, or nothing has come for `wait_ms`.
  static std::string Take(int fd, size_t bytes, int wait_ms = kSoonMs) {
    std::string got;
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    char buffer[65536];
    while (got.size() < bytes && poll(&ready, 1, wait_ms) > 0) {
      const ssize_t n = read(fd, buffer, std::min(sizeof(buffer), bytes - got.size()));
      if (n <= 0) {
        break;
      }
      got.append(buffer, static_cast<size_t>(n));
    }
    return got;
  }
  static void Give(int fd, std::string_view bytes) {
    pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
    while (!bytes.empty() && poll(&ready, 1, kSoonMs) > 0) {
      const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0) {
        return;
      }
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  void Ask(std::string_view bytes) const { Give(client_.get(), bytes); }
  void AskWith(int descriptor, std::string_view bytes) const {
    EXPECT_EQ(SendWithFd(client_.get(), 0, bytes.data(), bytes.size(), descriptor), static_cast<ssize_t>(bytes.size()));
  }
  void Answer(std::string_view bytes) const { Give(server_.get(), bytes); }
  std::string AtServer(size_t bytes, int wait_ms = kSoonMs) const { return Take(server_.get(), bytes, wait_ms); }
  std::string AtClient(size_t bytes) const { return Take(client_.get(), bytes); }
  // It was hung up on: both ends see the end, after what was under way.
  bool IsHungUp() const {
    Take(client_.get(), SIZE_MAX);
    Take(server_.get(), SIZE_MAX);
    char c = 0;
    return read(client_.get(), &c, 1) == 0 && read(server_.get(), &c, 1) == 0;
  }
  void CloseClient() { client_.Reset(); }
  void CloseServer() { server_.Reset(); }

 private:
  UniqueFd client_;
  UniqueFd server_;
};

TEST(ReaderGate, BytesPassUnchangedBothWays) {
  ReaderGate gate({});
  const Connection connection(gate, 1000);
  std::string asked(kPreface);
  std::string answered;
  for (uint32_t stream = 1; stream < 200; stream += 2) {
    asked += Headers(stream) + Data(stream, stream * 10) + Reset(stream);
    answered += FrameBytes(0, 0, stream, std::string(stream * 30, 'a'));
  }
  connection.Ask(asked);
  EXPECT_TRUE(connection.AtServer(asked.size()) == asked);
  connection.Answer(answered);
  EXPECT_TRUE(connection.AtClient(answered.size()) == answered);
}

TEST(ReaderGate, AnEndAtOneSideIsOneAtTheOther) {
  ReaderGate gate({});
  Connection asks(gate, 1000);
  asks.Ask("bye");
  asks.CloseClient();
  EXPECT_EQ(asks.AtServer(SIZE_MAX), "bye");
  Connection answers(gate, 1000);
  answers.Answer("bye");
  answers.CloseServer();
  EXPECT_EQ(answers.AtClient(SIZE_MAX), "bye");
}

TEST(ReaderGate, WhoSendsDescriptorsAlongIsHungUpOn) {
  ReaderGate gate({});
  const Connection connection(gate, 1000);
  connection.Ask("before");
  EXPECT_EQ(connection.AtServer(6), "before");
  connection.AskWith(STDERR_FILENO, "with it");
  EXPECT_TRUE(connection.IsHungUp());
  const Connection again(gate, 1000);
  again.Ask("hello");
  EXPECT_EQ(again.AtServer(5), "hello");
}

TEST(ReaderGate, WhoSendsFramesTooQuicklyIsReadMoreSlowlyAndOthersAreNot) {
  ReaderGate gate({.frames_per_second = 0.001, .burst_frames = 100});
  const Connection floods(gate, 1000);
  const Connection same_user(gate, 1000);
  const Connection other(gate, 1001);
  std::string flood(kPreface);
  for (uint32_t i = 0; i < 5'000; ++i) {
    flood += Headers(2 * i + 1) + Reset(2 * i + 1);
  }
  floods.Ask(flood);
  const std::string first = floods.AtServer(flood.size(), 500);
  EXPECT_GE(first.size(), 1'000u);
  EXPECT_LT(first.size(), 40'000u) << "the burst, and what one read brought beyond it";
  EXPECT_EQ(flood.compare(0, first.size(), first), 0);
  other.Ask("hello");
  EXPECT_EQ(other.AtServer(5), "hello");
  same_user.Ask("hello");
  EXPECT_EQ(same_user.AtServer(5, 200), "") << "the bound is the user's";
  same_user.Answer("an answer");
  EXPECT_EQ(same_user.AtClient(9), "an answer");
}

TEST(ReaderGate, TooManyStreamsAtOnceEndTheConnection) {
  ReaderGate gate({.open_streams = 10});
  const Connection connection(gate, 1000);
  std::string asked(kPreface);
  for (uint32_t i = 0; i < 100; ++i) {  // one after the other they are as many as one likes
    asked += Headers(2 * i + 1) + Reset(2 * i + 1);
  }
  for (uint32_t i = 100; i < 110; ++i) {
    asked += Headers(2 * i + 1);
  }
  connection.Ask(asked);
  EXPECT_EQ(connection.AtServer(asked.size()).size(), asked.size());
  connection.Answer(Trailers(201));  // the server ends one, so there may be another
  EXPECT_EQ(connection.AtClient(Trailers(201).size()), Trailers(201));
  connection.Ask(Headers(1001));
  EXPECT_EQ(connection.AtServer(Headers(0).size()), Headers(1001));
  connection.Ask(Headers(1003));
  EXPECT_TRUE(connection.IsHungUp());
  const Connection next(gate, 1000);  // its streams went with it
  next.Ask(std::string(kPreface) + Headers(1));
  EXPECT_EQ(next.AtServer(kPreface.size() + Headers(1).size()).size(), kPreface.size() + Headers(1).size());
}

TEST(ReaderGate, UnfinishedRequestsHaveABoundTogether) {
  ReaderGate gate({.request_bytes = 1'000});
  const Connection one(gate, 1000);
  const Connection two(gate, 1000);
  one.Ask(std::string(kPreface) + Headers(1) + Data(1, 900));
  EXPECT_EQ(one.AtServer(kPreface.size() + 14 + 909).size(), kPreface.size() + 14 + 909);
  two.Ask(std::string(kPreface) + Headers(1) + Data(1, 900));
  EXPECT_TRUE(two.IsHungUp());
}

TEST(ReaderGate, AUserHasSoManyConnections) {
  ReaderGate gate({.connections = 2});
  const Connection one(gate, 1000);
  auto two = std::make_unique<Connection>(gate, 1000);
  const Connection three(gate, 1000);
  EXPECT_TRUE(three.IsHungUp());
  const Connection other(gate, 1001);
  other.Ask("hello");
  EXPECT_EQ(other.AtServer(5), "hello");
  two->CloseServer();
  EXPECT_EQ(two->AtClient(1), "");  // it has gone
  const Connection four(gate, 1000);
  four.Ask("hello");
  EXPECT_EQ(four.AtServer(5), "hello");
}

}  // namespace
}  // namespace supervisor
