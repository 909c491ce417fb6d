#include "common/close_aside.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "common/passed_fd.h"
#include "common/refuse_rights.h"

namespace supervisor {
namespace {

constexpr int kSoonMs = 20'000;
using Ends = std::pair<UniqueFd, UniqueFd>;

Ends Pair(int type) {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// A TCP connection. To close the first end waits for 1000 s, or until the second one reads.
Ends Lingering() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(listener.get(), generic, size), 0);
  EXPECT_EQ(listen(listener.get(), 1), 0);
  EXPECT_EQ(getsockname(listener.get(), generic, &size), 0);
  UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(client.get(), generic, size), 0);
  UniqueFd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const linger patience{.l_onoff = 1, .l_linger = 1000};
  EXPECT_EQ(setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &patience, sizeof(patience)), 0);
  const std::string block(65536, 'x');
  while (send(client.get(), block.data(), block.size(), MSG_DONTWAIT) > 0) {
  }
  return {std::move(client), std::move(server)};
}

// Sends `gift` along with a byte, and lets go of it.
void SendAlong(int socket, UniqueFd gift) {
  ASSERT_EQ(SendWithFd(socket, 0, "b", 1, gift.get()), 1) << strerror(errno);
}

// Whether the other end of `fd` is closed, by the time that it is or some seconds later.
bool ComesToItsEnd(int fd) {
  std::array<char, 65536> bytes{};
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  while (poll(&ready, 1, kSoonMs) > 0) {
    const ssize_t got = read(fd, bytes.data(), bytes.size());
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
      return true;
    }
  }
  return false;
}

TEST(CloseAside, DoesNotWaitForWhatWasSentAlong) {
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    auto [theirs, ours] = Pair(type);
    auto [client, server] = Lingering();
    SendAlong(theirs.get(), std::move(client));
    CloseAside(std::move(ours));  // 1000 s, where it waits
    char byte = 'c';
    EXPECT_EQ(send(theirs.get(), &byte, 1, MSG_NOSIGNAL), -1) << "it is closed";
    EXPECT_TRUE(ComesToItsEnd(server.get())) << "and so is what lay there";
  }
}

TEST(CloseAside, NothingIsLeftForWhoeverElseHasTheSocketOpen) {
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    auto [theirs, ours] = Pair(type);
    UniqueFd kept(dup(ours.get()));
    std::vector<UniqueFd> servers;
    for (int i = 0; i < 5; ++i) {
      auto [client, server] = Lingering();
      SendAlong(theirs.get(), std::move(client));
      servers.push_back(std::move(server));
    }
    CloseAside(std::move(ours));
    for (const UniqueFd& server : servers) {
      EXPECT_TRUE(ComesToItsEnd(server.get()));
    }
    kept.Reset();  // waits for nothing
  }
}

TEST(CloseAside, KeepsNothingElseOpen) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd reads(ends[0]);
  UniqueFd writes(ends[1]);
  auto [theirs, ours] = Pair(SOCK_STREAM);
  auto [client, server] = Lingering();
  SendAlong(theirs.get(), std::move(client));
  CloseAside(std::move(ours));
  writes.Reset();
  EXPECT_TRUE(ComesToItsEnd(reads.get()));
}

TEST(CloseAside, AnEmptySocketAndOneThatRefuses) {
  auto [theirs, ours] = Pair(SOCK_STREAM);
  CloseAside(std::move(ours));
  EXPECT_TRUE(ComesToItsEnd(theirs.get()));
  auto [other, refusing] = Pair(SOCK_STREAM);
  RefuseRights(refusing.get());
  CloseAside(std::move(refusing));
  EXPECT_TRUE(ComesToItsEnd(other.get()));
  CloseAside(UniqueFd());
}

TEST(ClosedAside, WithItsLastOwner) {
  auto [theirs, ours] = Pair(SOCK_STREAM);
  auto [client, server] = Lingering();
  SendAlong(theirs.get(), std::move(client));
  std::shared_ptr<UniqueFd> owner = ClosedAside(std::move(ours));
  std::shared_ptr<UniqueFd> other = owner;
  owner.reset();
  char byte = 'c';
  EXPECT_EQ(send(theirs.get(), &byte, 1, MSG_NOSIGNAL), 1);
  other.reset();
  EXPECT_TRUE(ComesToItsEnd(server.get()));
}

}  // namespace
}  // namespace supervisor
