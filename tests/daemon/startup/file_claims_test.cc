#include "daemon/startup/file_claims.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace supervisor {
namespace {

namespace fs = std::filesystem;

class FileClaimsTest : public ::testing::Test {
 protected:
  FileClaimsTest() {
    std::string path = (fs::temp_directory_path() / "claims-XXXXXX").string();
    directory_ = mkdtemp(path.data());
    fs::create_directory(directory_ + "/pids");
    fs::create_directory(directory_ + "/logs");
  }
  ~FileClaimsTest() override { fs::remove_all(directory_); }

  std::vector<std::string> Files(const std::string& id) const {
    return {directory_ + "/pids/" + id + ".pid", directory_ + "/logs/" + id + ".log"};
  }
  size_t Left() const {
    size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory_)) {
      count += entry.is_regular_file() ? 1 : 0;
    }
    return count;
  }

  std::string directory_;
  HeldDescriptors held_{-1, -1};
};

TEST_F(FileClaimsTest, WhatIsAnothersIsRefusedAndTheOwnerNamed) {
  FileClaims first("/run/a.sock", held_);
  FileClaims second("/run/b.sock", held_);
  ASSERT_TRUE(first.Claim(Files("web"), 4711, false).ok());
  EXPECT_TRUE(second.Check(Files("worker")).ok());
  const absl::Status clash = second.Claim(Files("web"), 4712, false);
  ASSERT_TRUE(absl::IsAlreadyExists(clash)) << clash;
  for (const char* words : {"web.", "pid 4711", "/run/a.sock", "global.pid_directory"}) {
    EXPECT_NE(clash.message().find(words), std::string::npos) << clash.message();
  }
  EXPECT_TRUE(absl::IsAlreadyExists(second.Check(Files("web"))));
  EXPECT_EQ(Left(), 2u) << "one claim in each directory, and none of the second's";
}

TEST_F(FileClaimsTest, OtherNamesInTheSameDirectoryAreNobodysTrouble) {
  FileClaims first("/run/a.sock", held_);
  FileClaims second("/run/b.sock", held_);
  ASSERT_TRUE(first.Claim(Files("web"), 1, false).ok());
  EXPECT_TRUE(second.Claim(Files("worker"), 2, false).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(first.Claim(Files("worker"), 1, false))) << "such as a reload adds";
  EXPECT_TRUE(second.Claim(Files("other"), 2, false).ok());
  EXPECT_TRUE(first.Claim(Files("worker"), 1, false).ok()) << "given up by the other's reload";
  EXPECT_TRUE(second.Claim(Files("web"), 2, false).ok());
}

TEST_F(FileClaimsTest, WhatTheDeadHaveLeftIsTidiedAway) {
  {
    FileClaims dead("/run/a.sock", held_);
    ASSERT_TRUE(dead.Claim(Files("web"), 1, false).ok());
  }
  EXPECT_EQ(Left(), 2u) << "as after a kill";
  FileClaims next("/run/b.sock", held_);
  EXPECT_TRUE(next.Claim(Files("web"), 2, false).ok());
  EXPECT_EQ(Left(), 2u);
  next.Release();
  EXPECT_EQ(Left(), 0u);
}

TEST_F(FileClaimsTest, ItsOwnOfAnEarlierLifeIsNoObstacle) {
  FileClaims before("/run/a.sock", held_);
  ASSERT_TRUE(before.Claim(Files("web"), 1, false).ok());
  FileClaims next("/run/a.sock", held_);
  EXPECT_TRUE(next.Claim(Files("web"), 2, false).ok()) << "the lock of the socket says that there is no other";
  EXPECT_TRUE(absl::IsAlreadyExists(FileClaims("/run/b.sock", held_).Check(Files("web"))));
}

TEST_F(FileClaimsTest, TheLockLastsOverTheDaemonThatTookIt) {
  const auto [send_fd, receive_fd] = HeldDescriptors::MakePair();
  const UniqueFd send(send_fd);
  const UniqueFd receive(receive_fd);
  {
    HeldDescriptors held(send_fd, receive_fd);
    FileClaims dead("/run/a.sock", held);
    ASSERT_TRUE(dead.Claim(Files("web"), 1, false).ok());
  }
  EXPECT_TRUE(absl::IsAlreadyExists(FileClaims("/run/b.sock", held_).Check(Files("web"))));
  HeldDescriptors held(send_fd, receive_fd);
  FileClaims next("/run/a.sock", held);
  EXPECT_TRUE(next.Claim(Files("web"), 1, false).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(FileClaims("/run/b.sock", held_).Check(Files("web"))));
}

TEST_F(FileClaimsTest, OneThatMustGoOnSaysSoAndGoesOn) {
  FileClaims first("/run/a.sock", held_);
  FileClaims second("/run/b.sock", held_);
  ASSERT_TRUE(first.Claim(Files("web"), 1, false).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(second.Claim(Files("web"), 2, true)));
  EXPECT_EQ(Left(), 4u) << "both say it now";
}

TEST_F(FileClaimsTest, ADirectoryUnderTwoNamesIsOne) {
  fs::create_directory_symlink(directory_ + "/pids", directory_ + "/link");
  FileClaims first("/run/a.sock", held_);
  ASSERT_TRUE(first.Claim({directory_ + "/pids/web.pid", directory_ + "/link/web.log"}, 1, false).ok());
  FileClaims second("/run/b.sock", held_);
  EXPECT_TRUE(absl::IsAlreadyExists(second.Check({directory_ + "/link/web.pid"})));
  EXPECT_TRUE(absl::IsAlreadyExists(second.Check({directory_ + "/pids/../pids/web.log"})));
}

TEST_F(FileClaimsTest, WhereNothingCanBeWrittenNothingIsRefused) {
  FileClaims claims("/run/a.sock", held_);
  EXPECT_TRUE(claims.Claim({"/proc/self/web.pid", directory_ + "/missing/web.log"}, 1, false).ok());
}

TEST_F(FileClaimsTest, StrangersKeepNobodyFromStarting) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  constexpr uid_t kNobody = 65534;
  FileClaims stranger("/run/a.sock", held_);
  ASSERT_TRUE(stranger.Claim(Files("web"), 1, false).ok());
  for (const auto& entry : fs::recursive_directory_iterator(directory_)) {
    if (entry.is_regular_file()) {
      ASSERT_EQ(chown(entry.path().c_str(), kNobody, kNobody), 0);
    }
  }
  EXPECT_TRUE(FileClaims("/run/b.sock", held_).Check(Files("web")).ok());
}

TEST_F(FileClaimsTest, NonsenseIsSkipped) {
  const std::string path = directory_ + "/pids/.supervisord-nonsense.claims";
  std::ofstream(path) << "file\nfile \n\n \nsocket\nx web.pid\n";
  fs::create_directory(directory_ + "/pids/.supervisord-directory.claims");
  ASSERT_EQ(mkfifo((directory_ + "/pids/.supervisord-fifo.claims").c_str(), 0600), 0);
  FileClaims claims("/run/a.sock", held_);
  EXPECT_TRUE(claims.Claim(Files("web"), 1, false).ok());
}

}  // namespace
}  // namespace supervisor
