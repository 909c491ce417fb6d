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
    const auto lock = AcquireLock(paths_, FileTrust::kStrict);
    ASSERT_TRUE(lock.ok()) << lock.status();
    WritePid(getpid());
    EXPECT_EQ(RunningDaemon(paths_), Answer(getpid()));
    EXPECT_TRUE(absl::IsAlreadyExists(AcquireLock(paths_, FileTrust::kStrict).status()));
  }
  EXPECT_EQ(RunningDaemon(paths_), Answer(std::nullopt)) << "whatever the pid file says";
}

// Somebody who can write the pid file must not have us signal whom he likes.
TEST_F(LockTest, APidThatIsNoSupervisorIsNotBelieved) {
  const auto lock = AcquireLock(paths_, FileTrust::kStrict);
  ASSERT_TRUE(lock.ok()) << lock.status();
  WritePid(getppid());
  const Answer answer = RunningDaemon(paths_);
  EXPECT_TRUE(absl::IsFailedPrecondition(answer.status())) << answer.status();
}

TEST_F(LockTest, ADirectoryThatOthersMayWriteIsRefused) {
  chmod(directory_.c_str(), 0777);
  const auto lock = AcquireLock(paths_, FileTrust::kStrict);
  EXPECT_TRUE(absl::IsFailedPrecondition(lock.status())) << lock.status();
  EXPECT_FALSE(AcquireLock(paths_, FileTrust::kAny).ok()) << "that is for the directories above alone";
  EXPECT_FALSE(std::filesystem::exists(paths_.lock_file));
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
    lock_ = AcquireLock(paths_, FileTrust::kStrict);
    ASSERT_TRUE(lock_.ok()) << lock_.status();
    prctl(PR_GET_NAME, name_);
  }
  void TearDown() override { prctl(PR_SET_NAME, name_); }

  absl::StatusOr<UniqueFd> lock_ = UniqueFd();
  char name_[16] = {};
};

TEST_F(LockOfRoot, IsLearntFromThePidFileByWhoMayNotOpenIt) {
  WritePid(getppid());
  EXPECT_EQ(AskAsNobody(), Answer(std::nullopt)) << "this pid belongs to another program now";
  WritePid(getpid());
  prctl(PR_SET_NAME, "supervisord");
  EXPECT_EQ(AskAsNobody(), Answer(getpid()));
  std::filesystem::remove(paths_.pid_file);
  EXPECT_EQ(AskAsNobody(), Answer(std::nullopt));
}

TEST_F(LockOfRoot, IsNotTakenFromAnotherUsersFile) {
  lock_ = UniqueFd();
  ASSERT_EQ(chown(paths_.lock_file.c_str(), kNobody, kNobody), 0);
  const auto lock = AcquireLock(paths_, FileTrust::kStrict);
  EXPECT_EQ(lock.status().message(), "lock file " + paths_.lock_file +
                                         " belongs to uid 65534: somebody else put it there (run: rm " +
                                         paths_.lock_file + ")");
}

TEST_F(LockOfRoot, CannotBeToldByWhoMayNotReadThatEither) {
  WritePid(getpid());
  prctl(PR_SET_NAME, "supervisord");
  chmod(directory_.c_str(), 0700);
  EXPECT_TRUE(absl::IsPermissionDenied(AskAsNobody().status()));
}

}  // namespace
}  // namespace supervisor
