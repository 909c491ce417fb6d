#include "daemon/startup/lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace supervisor {
namespace {

class LockTest : public ::testing::Test {
 protected:
  LockTest() {
    std::string path = (std::filesystem::temp_directory_path() / "lock-XXXXXX").string();
    directory_ = mkdtemp(path.data());
    chmod(directory_.c_str(), 0755);
    paths_ = GetRuntimePaths(directory_ + "/s.sock");
  }
  ~LockTest() override { std::filesystem::remove_all(directory_); }

  void WritePid(pid_t pid) const { std::ofstream(paths_.pid_file) << pid << "\n"; }

  std::string directory_;
  RuntimePaths paths_;
};

using Answer = absl::StatusOr<std::optional<pid_t>>;

TEST_F(LockTest, WhoHoldsTheLockRuns) {
  EXPECT_EQ(RunningDaemon(paths_), Answer(std::nullopt));
  {
    const auto lock = AcquireLock(paths_);
    ASSERT_TRUE(lock.ok()) << lock.status();
    WritePid(getpid());
    EXPECT_EQ(RunningDaemon(paths_), Answer(getpid()));
    EXPECT_TRUE(absl::IsAlreadyExists(AcquireLock(paths_).status()));
  }
  EXPECT_EQ(RunningDaemon(paths_), Answer(std::nullopt)) << "whatever the pid file says";
}

// An ordinary user, who asks about root's.
class LockOfRoot : public LockTest {
 protected:
  static constexpr uid_t kNobody = 65534;

  Answer AskAsNobody() const {
    EXPECT_EQ(seteuid(kNobody), 0);
    Answer answer = RunningDaemon(paths_);
    EXPECT_EQ(seteuid(0), 0);
    return answer;
  }
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    lock_ = AcquireLock(paths_);
    ASSERT_TRUE(lock_.ok()) << lock_.status();
    prctl(PR_GET_NAME, name_);
  }
  void TearDown() override { prctl(PR_SET_NAME, name_); }

  absl::StatusOr<UniqueFd> lock_ = UniqueFd();
  char name_[16] = {};
};

TEST_F(LockOfRoot, IsLearntFromThePidFileByWhoMayNotOpenIt) {
  WritePid(getpid());
  EXPECT_EQ(AskAsNobody(), Answer(std::nullopt)) << "this pid belongs to another program now";
  prctl(PR_SET_NAME, "supervisord");
  EXPECT_EQ(AskAsNobody(), Answer(getpid()));
  std::filesystem::remove(paths_.pid_file);
  EXPECT_EQ(AskAsNobody(), Answer(std::nullopt));
}

TEST_F(LockOfRoot, CannotBeToldByWhoMayNotReadThatEither) {
  WritePid(getpid());
  prctl(PR_SET_NAME, "supervisord");
  chmod(directory_.c_str(), 0700);
  EXPECT_TRUE(absl::IsPermissionDenied(AskAsNobody().status()));
}

}  // namespace
}  // namespace supervisor
