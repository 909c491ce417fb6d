#include "daemon/process/held_descriptors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace supervisor {
namespace {

class HeldDescriptorsTest : public testing::Test {
 protected:
  HeldDescriptorsTest() {
    std::string pattern = testing::TempDir() + "heldXXXXXX";
    directory_ = mkdtemp(pattern.data());
    const auto [send, receive] = HeldDescriptors::MakePair();
    send_.Reset(send);
    receive_.Reset(receive);
  }
  ~HeldDescriptorsTest() override { std::filesystem::remove_all(directory_); }

  UniqueFd Fifo(const std::string& name) const {
    const std::string path = directory_ + "/" + name;
    mkfifo(path.c_str(), 0600);
    return UniqueFd(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  }

  // What is read from it after everybody else has closed it.
  std::string LeftIn(const std::string& name) const {
    const UniqueFd fd = Fifo(name);
    char text[64] = {};
    const ssize_t got = read(fd.get(), text, sizeof(text));
    return {text, got > 0 ? static_cast<size_t>(got) : 0};
  }

  std::string directory_;
  UniqueFd send_;
  UniqueFd receive_;
};

TEST_F(HeldDescriptorsTest, WhatWasWrittenOutlivesReaderAndWriter) {
  {
    HeldDescriptors daemon(send_.get(), receive_.get());
    const UniqueFd fifo = Fifo("web.out");
    ASSERT_TRUE(daemon.Keep("web.out", fifo.get()).ok());
    ASSERT_EQ(write(fifo.get(), "last words", 10), 10);
    const UniqueFd lost = Fifo("lost");
    ASSERT_EQ(write(lost.get(), "lost words", 10), 10);
  }
  EXPECT_EQ(LeftIn("web.out"), "last words");
  EXPECT_EQ(LeftIn("lost"), "") << "or the test proves nothing";
}

TEST_F(HeldDescriptorsTest, TheNextDaemonHoldsThemOn) {
  {
    HeldDescriptors daemon(send_.get(), receive_.get());
    const UniqueFd fifo = Fifo("web.out");
    ASSERT_TRUE(daemon.Keep("web.out", fifo.get()).ok());
    ASSERT_EQ(write(fifo.get(), "one", 3), 3);
  }
  for (int generation = 0; generation < 5; ++generation) {
    HeldDescriptors daemon(send_.get(), receive_.get());
    const UniqueFd fifo = Fifo("web.out");
    ASSERT_TRUE(daemon.Keep("web.out", fifo.get()).ok());
  }
  EXPECT_EQ(LeftIn("web.out"), "one");
}

TEST_F(HeldDescriptorsTest, WhatIsForgottenIsLetGoWhenThereIsMuchOfIt) {
  HeldDescriptors daemon(send_.get(), receive_.get());
  const UniqueFd stays = Fifo("stays");
  ASSERT_TRUE(daemon.Keep("stays", stays.get()).ok());
  ASSERT_EQ(write(stays.get(), "x", 1), 1);
  {
    const UniqueFd gone = Fifo("gone");
    ASSERT_TRUE(daemon.Keep("gone", gone.get()).ok());
    ASSERT_EQ(write(gone.get(), "y", 1), 1);
    daemon.Forget("gone");
  }
  for (int i = 0; i < 500; ++i) {
    const std::string name = fmt::format("passing{}", i);
    const UniqueFd fifo = Fifo(name);
    ASSERT_TRUE(daemon.Keep(name, fifo.get()).ok());
    daemon.Forget(name);
  }
  EXPECT_EQ(LeftIn("gone"), "");
  EXPECT_EQ(LeftIn("stays"), "x");
}

TEST_F(HeldDescriptorsTest, AFileThatCameInItsPlaceIsHeldInstead) {
  HeldDescriptors daemon(send_.get(), receive_.get());
  {
    const UniqueFd first = Fifo("web.out");
    ASSERT_TRUE(daemon.Keep("web.out", first.get()).ok());
  }
  std::filesystem::remove(directory_ + "/web.out");
  {
    const UniqueFd second = Fifo("web.out");
    ASSERT_TRUE(daemon.Keep("web.out", second.get()).ok());
    ASSERT_EQ(write(second.get(), "second", 6), 6);
  }
  EXPECT_EQ(LeftIn("web.out"), "second");
}

TEST_F(HeldDescriptorsTest, ASocketIsHandedToTheNextDaemonWithWhatWasSaid) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  {
    HeldDescriptors daemon(send_.get(), receive_.get());
    ASSERT_TRUE(daemon.Keep("web.notify", ours.get()).ok());
  }
  ours.Reset();
  ASSERT_EQ(send(theirs.get(), "READY=1", 7, 0), 7) << "nobody refuses it";
  HeldDescriptors next(send_.get(), receive_.get());
  EXPECT_FALSE(next.TakeSocket("other.notify"));
  const UniqueFd taken = next.TakeSocket("web.notify");
  ASSERT_TRUE(taken);
  char text[16] = {};
  EXPECT_EQ(recv(taken.get(), text, sizeof(text), MSG_DONTWAIT), 7);
  EXPECT_FALSE(next.TakeSocket("web.notify")) << "once";
}

TEST_F(HeldDescriptorsTest, ALockLastsAsLongAsItLiesThere) {
  const std::string path = directory_ + "/lock";
  const auto open_it = [&] { return UniqueFd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)); };
  {
    HeldDescriptors daemon(send_.get(), receive_.get());
    const UniqueFd locked = open_it();
    ASSERT_EQ(flock(locked.get(), LOCK_EX | LOCK_NB), 0);
    ASSERT_TRUE(daemon.Keep(path, locked.get()).ok());
  }
  const UniqueFd other = open_it();
  EXPECT_NE(flock(other.get(), LOCK_EX | LOCK_NB), 0);
  const UniqueFd taken = HeldDescriptors(send_.get(), receive_.get()).TakeFile(path);
  ASSERT_TRUE(taken);
  EXPECT_EQ(flock(taken.get(), LOCK_EX | LOCK_NB), 0) << "it is the one that has the lock";
  send_.Reset();
  receive_.Reset();
  EXPECT_NE(flock(other.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(HeldDescriptorsTest, ThousandsAreHeld) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "an ordinary user's sockets hold fewer";
  }
  constexpr int kMany = 3000;
  {
    HeldDescriptors daemon(send_.get(), receive_.get());
    for (int i = 0; i < kMany; ++i) {
      const std::string name = fmt::format("web:{}", i);
      const UniqueFd fifo = Fifo(name);
      const absl::Status kept = daemon.Keep(name, fifo.get());
      ASSERT_TRUE(kept.ok()) << i << kept;
      ASSERT_EQ(write(fifo.get(), name.data(), name.size()), static_cast<ssize_t>(name.size()));
    }
  }
  HeldDescriptors next(send_.get(), receive_.get());
  EXPECT_EQ(LeftIn("web:0"), "web:0");
  EXPECT_EQ(LeftIn("web:2999"), "web:2999");
}

TEST_F(HeldDescriptorsTest, WithoutAGuardianNothingIsHeldAndNothingFails) {
  HeldDescriptors daemon(-1, -1);
  const UniqueFd fifo = Fifo("web.out");
  EXPECT_TRUE(daemon.Keep("web.out", fifo.get()).ok());
  EXPECT_FALSE(daemon.TakeSocket("web.out"));
}

}  // namespace
}  // namespace supervisor
