#include "daemon/rpc/peers.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace supervisor {
namespace {

using ::testing::HasSubstr;

UniqueFd Connection() {
  std::array<int, 2> ends{};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  close(ends[1]);
  return UniqueFd(ends[0]);
}

absl::StatusOr<UniqueFd> Registered(Peers& peers, UniqueFd connection) {
  const absl::StatusOr<Peer> peer = PeerOf(connection.get());
  EXPECT_TRUE(peer.ok()) << peer.status();
  return peers.Register(std::move(connection), peer.ok() ? *peer : Peer{});
}

TEST(Peers, KnowsWhoIsAtTheOtherEnd) {
  Peers peers;
  const absl::StatusOr<UniqueFd> fd = Registered(peers, Connection());
  ASSERT_TRUE(fd.ok()) << fd.status();
  const std::optional<Peer> peer = peers.Find("fd:" + std::to_string(fd->get()));
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, geteuid());
  EXPECT_THAT(DescribePeer(*peer), HasSubstr("pid " + std::to_string(getpid()) + " (rpc_test)"));
}

TEST(Peers, ANumberIsNotUsedAgainSoon) {
  Peers peers;
  std::set<int> seen;
  for (int i = 0; i < 100; ++i) {
    const absl::StatusOr<UniqueFd> fd = Registered(peers, Connection());
    ASSERT_TRUE(fd.ok());
    EXPECT_TRUE(seen.insert(fd->get()).second) << fd->get() << " a second time, though it was closed";
  }
}

bool HasHungUp(const UniqueFd& fd) {
  pollfd watched{.fd = fd.get(), .events = POLLRDHUP, .revents = 0};
  return poll(&watched, 1, 0) == 1;
}

TEST(Peers, HangsUpOnWhoDoesNotReadAndThenOnAll) {
  Peers peers;
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const absl::StatusOr<UniqueFd> reads = Registered(peers, UniqueFd(ends[0]));
  const UniqueFd reader(ends[1]);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const absl::StatusOr<UniqueFd> sleeps = Registered(peers, UniqueFd(ends[0]));
  const UniqueFd sleeper(ends[1]);
  ASSERT_TRUE(reads.ok() && sleeps.ok());
  ASSERT_EQ(write(sleeps->get(), "bye", 3), 3);

  peers.HangUp(Peers::Whom::kWhoDoesNotRead);
  EXPECT_FALSE(HasHungUp(reader));
  EXPECT_TRUE(HasHungUp(sleeper));
  char kept[3];
  EXPECT_EQ(read(sleeper.get(), kept, sizeof(kept)), 3) << "what was written before can still be read";
  peers.HangUp(Peers::Whom::kAll);
  EXPECT_TRUE(HasHungUp(reader));
}

TEST(Peers, TheOldestThatHasAskedNothingMakesRoom) {
  Peers peers;
  std::vector<UniqueFd> ours;
  std::vector<UniqueFd> theirs;
  for (int i = 0; i < 3; ++i) {
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    theirs.emplace_back(ends[1]);
    absl::StatusOr<UniqueFd> registered = Registered(peers, UniqueFd(ends[0]));
    ASSERT_TRUE(registered.ok());
    ours.push_back(*std::move(registered));
  }
  ASSERT_TRUE(peers.Find("fd:" + std::to_string(ours[0].get())).has_value());
  EXPECT_TRUE(peers.HangUpSilent());
  EXPECT_FALSE(HasHungUp(theirs[0])) << "it has asked something";
  EXPECT_TRUE(HasHungUp(theirs[1]));
  EXPECT_FALSE(HasHungUp(theirs[2]));
  EXPECT_TRUE(peers.HangUpSilent());
  EXPECT_TRUE(HasHungUp(theirs[2]));
  EXPECT_FALSE(peers.HangUpSilent()) << "nobody is left whom it would not disturb";
  EXPECT_FALSE(HasHungUp(theirs[0]));
}

TEST(Peers, ANumberThatIsSomebodyElsesByNowIsLeftAlone) {
  Peers peers;
  absl::StatusOr<UniqueFd> registered = Registered(peers, Connection());
  ASSERT_TRUE(registered.ok());
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd theirs(ends[0]);
  const UniqueFd other_end(ends[1]);
  ASSERT_EQ(dup3(theirs.get(), registered->get(), O_CLOEXEC), registered->get());
  peers.HangUp(Peers::Whom::kAll);
  EXPECT_FALSE(HasHungUp(other_end));
}

TEST(Peers, WhatIsNoPeerIsNotFound) {
  const Peers peers;
  for (const char* text : {"", "fd:", "fd:x", "unix:", "ipv4:1.2.3.4:5", "fd:7"}) {
    EXPECT_FALSE(peers.Find(text).has_value()) << text;
  }
}

TEST(MayAct, RootTheDaemonsUserAndTheGroup) {
  const gid_t group = 4242;
  EXPECT_TRUE(MayAct({.pid = 1, .uid = 0, .gid = 0, .groups = {}, .command = {}}, std::nullopt, "").ok());
  EXPECT_TRUE(MayAct({.pid = 1, .uid = geteuid(), .gid = 0, .groups = {}, .command = {}}, std::nullopt, "").ok());
  const Peer stranger{.pid = 1, .uid = 54321, .gid = 54321, .groups = {}, .command = "ctl"};
  const absl::Status refused = MayAct(stranger, std::nullopt, "");
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("uid 54321"));
  EXPECT_FALSE(MayAct(stranger, group, "ops").ok());
  Peer member = stranger;
  member.groups = {1, group};
  EXPECT_TRUE(MayAct(member, group, "ops").ok());
  EXPECT_FALSE(MayAct(member, std::nullopt, "").ok()) << "a group that is not configured allows nobody";
}

}  // namespace
}  // namespace supervisor
