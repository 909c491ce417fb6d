#include "daemon/rpc/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "common/clock.h"

namespace supervisor {
namespace {

using ::testing::HasSubstr;

class ListenerTest : public ::testing::Test {
 protected:
  ListenerTest() {
    std::string path = (std::filesystem::temp_directory_path() / "listener-XXXXXX").string();
    directory_ = mkdtemp(path.data());
  }
  ~ListenerTest() override { std::filesystem::remove_all(directory_); }

  absl::StatusOr<std::unique_ptr<Listener>> Open(const std::string& path, mode_t mode = 0660) {
    return Listener::Open(loop_, {.path = path, .private_directory = directory_, .mode = mode},
                          [this](const UniqueFd& connection) {
                            EXPECT_TRUE(connection.valid());
                            loop_.Stop();
                          });
  }

  static UniqueFd Connect(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? std::move(fd)
                                                                                                : UniqueFd();
  }

  // Runs the loop until somebody has connected.
  UniqueFd ConnectWhenItIsThere(const std::string& path) {
    UniqueFd client;
    std::unique_ptr<Loop::Timer> look;
    look = loop_.NewTimer([&] {
      client = Connect(path);
      look->ArmAfter(absl::Milliseconds(10));
    });
    look->ArmAfter(absl::ZeroDuration());
    loop_.Run();
    return client;
  }

  std::string directory_;
  Loop loop_;
};

TEST_F(ListenerTest, HandsOverConnectionsAndHasItsMode) {
  const std::string path = directory_ + "/s.sock";
  const auto listener = Open(path, 0600);
  ASSERT_TRUE(listener.ok()) << listener.status();
  struct stat info {};
  ASSERT_EQ(lstat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  const UniqueFd client = Connect(path);
  ASSERT_TRUE(client.valid());
  loop_.Run();
}

TEST_F(ListenerTest, ASocketThatWasRemovedComesBack) {
  const std::string path = directory_ + "/s.sock";
  const auto listener = Open(path);
  ASSERT_TRUE(listener.ok());
  ASSERT_EQ(unlink(path.c_str()), 0);
  EXPECT_TRUE(ConnectWhenItIsThere(path).valid());
}

TEST_F(ListenerTest, WhatBelongsToItIsMadeBeforeItAndTriedAgainWhereThatFails) {
  const std::string place = directory_ + "/place";
  const std::string path = place + "/s.sock";
  std::filesystem::create_directories(place + "/private");
  std::vector<MonoTime> tries;
  const Listener::Surroundings surroundings{.are_whole = [&] { return std::filesystem::exists(place + "/private"); },
                                            .restore =
                                                [&] {
                                                  tries.push_back(MonotonicNow());
                                                  if (tries.size() < 3) {
                                                    return absl::UnavailableError("not yet");
                                                  }
                                                  std::filesystem::create_directories(place + "/private");
                                                  return absl::OkStatus();
                                                }};
  const auto listener =
      Listener::Open(loop_, {.path = path, .private_directory = place + "/private", .surroundings = surroundings},
                     [this](const UniqueFd&) { loop_.Stop(); });
  ASSERT_TRUE(listener.ok()) << listener.status();
  std::filesystem::remove_all(place);
  EXPECT_TRUE(ConnectWhenItIsThere(path).valid());
  ASSERT_EQ(tries.size(), 3u);
  EXPECT_GE(tries[1] - tries[0], absl::Milliseconds(200));
  EXPECT_GE(tries[2] - tries[1], absl::Milliseconds(400));
}

TEST_F(ListenerTest, AnotherProgramsSocketIsNotTaken) {
  const std::string path = directory_ + "/s.sock";
  const auto first = Open(path);
  ASSERT_TRUE(first.ok());
  const auto second = Open(path);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(path + ": another program listens there"));
  EXPECT_TRUE(Connect(path).valid()) << "and goes on to be served";
}

TEST_F(ListenerTest, AStaleSocketIsNoObstacle) {
  const std::string path = directory_ + "/s.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  {
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  EXPECT_TRUE(Open(path).ok());
}

TEST_F(ListenerTest, ThePathMayHave107BytesAndNoMore) {
  const std::string longest = directory_ + "/" + std::string(107 - directory_.size() - 1, 's');
  EXPECT_TRUE(Open(longest).ok());
  const auto longer = Open(longest + "s");
  ASSERT_FALSE(longer.ok());
  EXPECT_THAT(std::string(longer.status().message()), HasSubstr("108 bytes are more than the 107"));
}

TEST_F(ListenerTest, GoesWithItsSocket) {
  const std::string path = directory_ + "/s.sock";
  { ASSERT_TRUE(Open(path).ok()); }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace supervisor
