#include "daemon/health/orderly_close.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

namespace supervisor {
namespace {

// A TCP connection over loopback: ours, and the other end.
struct Connection {
  UniqueFd ours;
  UniqueFd theirs;
};

Connection Connect() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(listener.get(), 1), 0);
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length);
  Connection connection{.ours = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), .theirs = UniqueFd()};
  EXPECT_EQ(connect(connection.ours.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  connection.theirs.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return connection;
}

// 0: the end came in order; else the errno.
int HowItEnds(int fd) {
  char byte = 0;
  const ssize_t count = recv(fd, &byte, 1, 0);
  return count < 0 ? errno : 0;
}

class OrderlyCloseTest : public testing::Test {
 protected:
  // Runs the loop until nothing is left to be closed.
  void RunUntilIdle() {
    loop_.Post([this] {
      if (closer_.idle()) {
        loop_.Stop();
      } else {
        closer_.WhenIdle([this] { loop_.Stop(); });
      }
    });
    loop_.Run();
  }

  Loop loop_;
  OrderlyClose closer_{loop_};
};

TEST_F(OrderlyCloseTest, WhatIsUnreadResetsNothing) {
  Connection connection = Connect();
  const std::string banner(5000, 'x');
  ASSERT_EQ(send(connection.theirs.get(), banner.data(), banner.size(), 0), 5000);
  closer_.End(std::move(connection.ours));
  EXPECT_FALSE(closer_.idle());
  EXPECT_EQ(HowItEnds(connection.theirs.get()), 0);
  connection.theirs.Reset();
  RunUntilIdle();
}

TEST_F(OrderlyCloseTest, NorDoesWhatComesLater) {
  Connection connection = Connect();
  closer_.End(std::move(connection.ours));
  ASSERT_EQ(send(connection.theirs.get(), "late", 4, MSG_NOSIGNAL), 4);
  EXPECT_EQ(HowItEnds(connection.theirs.get()), 0);
  ASSERT_EQ(send(connection.theirs.get(), "later", 5, MSG_NOSIGNAL), 5);
  connection.theirs.Reset();
  RunUntilIdle();
}

TEST_F(OrderlyCloseTest, AnEndThatWasThereFirstNeedsNoWaiting) {
  Connection connection = Connect();
  connection.theirs.Reset();
  while (recv(connection.ours.get(), nullptr, 0, MSG_PEEK) < 0) {
  }
  closer_.End(std::move(connection.ours));
  RunUntilIdle();
}

TEST_F(OrderlyCloseTest, WhatIsNotConnectedIsClosed) {
  closer_.End(UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  closer_.End(UniqueFd());
  EXPECT_TRUE(closer_.idle());
}

TEST_F(OrderlyCloseTest, AFloodIsNotReadForEver) {
  Connection connection = Connect();
  const std::string piece(64 << 10, 'x');
  closer_.End(std::move(connection.ours));
  loop_.Post([this] { closer_.WhenIdle([this] { loop_.Stop(); }); });
  std::unique_ptr<Loop::Watch> floods = loop_.WatchFd(
      connection.theirs.get(), Loop::Interest::kWrite,
      [&](Loop::Ready) { send(connection.theirs.get(), piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL); });
  loop_.Run();
  EXPECT_TRUE(closer_.idle());
}

TEST_F(OrderlyCloseTest, OneThatNeverEndsIsClosedAtLast) {
  Connection connection = Connect();
  closer_.End(std::move(connection.ours));
  RunUntilIdle();  // which takes kLongest
  EXPECT_EQ(HowItEnds(connection.theirs.get()), 0);
}

TEST_F(OrderlyCloseTest, OfTooManyTheOldestGoes) {
  std::vector<Connection> connections;
  for (size_t i = 0; i < OrderlyClose::kMostConnections + 1; ++i) {
    connections.push_back(Connect());
    closer_.End(std::move(connections.back().ours));
  }
  // The oldest is closed: the kernel answers with a reset, whereupon nothing more can be sent.
  ASSERT_EQ(HowItEnds(connections.front().theirs.get()), 0);
  EXPECT_EQ(send(connections.front().theirs.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(send(connections.front().theirs.get(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(send(connections.back().theirs.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(send(connections.back().theirs.get(), "x", 1, MSG_NOSIGNAL), 1);
  connections.clear();
  RunUntilIdle();
}

}  // namespace
}  // namespace supervisor
