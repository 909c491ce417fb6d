#include "common/careful_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "common/file_id.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace supervisor {
namespace {

using testing::HasSubstr;

constexpr uid_t kStranger = 65534;

class CarefulPathTest : public testing::Test {
 protected:
  CarefulPathTest() {
    std::string name = testing::TempDir() + "supervisor_path_XXXXXX";
    path_ = mkdtemp(name.data()) == nullptr ? "" : name;
    std::filesystem::create_directories(path_ + "/a/b");
  }
  CarefulPathTest(const CarefulPathTest&) = delete;
  CarefulPathTest& operator=(const CarefulPathTest&) = delete;
  ~CarefulPathTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  static FileId IdOf(const std::string& path) {
    const auto facts = FactsAt(AT_FDCWD, path);
    return facts ? facts->id : FileId{};
  }
  static FileId IdOf(const absl::StatusOr<UniqueFd>& fd) {
    const auto facts = fd.ok() ? FactsOf(fd->get()) : std::nullopt;
    return facts ? facts->id : FileId{};
  }
  std::string path_;
};

TEST_F(CarefulPathTest, OpensWhatThePathNames) {
  EXPECT_EQ(IdOf(OpenDirectoryCarefully(path_ + "/a/b")), IdOf(path_ + "/a/b"));
  EXPECT_EQ(IdOf(OpenDirectoryCarefully(path_ + "//a/./b/../")), IdOf(path_ + "/a"));
  EXPECT_EQ(IdOf(OpenDirectoryCarefully("/")), IdOf("/"));
  EXPECT_EQ(IdOf(OpenDirectoryCarefully(".")), IdOf("."));
}

TEST_F(CarefulPathTest, FollowsOwnLinksOnly) {
  std::filesystem::create_directory_symlink("a/b", path_ + "/relative");
  std::filesystem::create_directory_symlink(path_ + "/a", path_ + "/absolute");
  std::filesystem::create_directory_symlink("loop", path_ + "/loop");
  EXPECT_EQ(IdOf(OpenDirectoryCarefully(path_ + "/relative")), IdOf(path_ + "/a/b"));
  EXPECT_EQ(IdOf(OpenDirectoryCarefully(path_ + "/absolute/b")), IdOf(path_ + "/a/b"));
  EXPECT_FALSE(OpenDirectoryCarefully(path_ + "/loop").ok());
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  ASSERT_EQ(lchown((path_ + "/absolute").c_str(), kStranger, kStranger), 0);
  const absl::Status refused = OpenDirectoryCarefully(path_ + "/absolute/b").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("symbolic link that user 65534 made"));
}

TEST_F(CarefulPathTest, MissingOnesAreToldOrMade) {
  EXPECT_TRUE(absl::IsNotFound(OpenDirectoryCarefully(path_ + "/x/y").status()));
  const FileId made = IdOf(OpenDirectoryCarefully(path_ + "/x/y", IfMissing::kMake));
  EXPECT_EQ(made, IdOf(path_ + "/x/y"));
  EXPECT_TRUE(std::filesystem::is_directory(path_ + "/x/y"));
  const int fd = open((path_ + "/file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_FALSE(OpenDirectoryCarefully(path_ + "/file").ok());
  EXPECT_FALSE(OpenDirectoryCarefully(path_ + "/file/x", IfMissing::kMake).ok());
}

TEST_F(CarefulPathTest, AStrangersDirectoryIsRefusedForRoot) {
  const absl::StatusOr<UniqueFd> own = OpenDirectoryCarefully(path_);
  ASSERT_TRUE(own.ok());
  EXPECT_TRUE(CheckDirectoryOwner(own->get(), "log directory", path_, std::nullopt).ok());
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  ASSERT_EQ(chown(path_.c_str(), kStranger, kStranger), 0);
  const absl::Status refused = CheckDirectoryOwner(own->get(), "log directory", path_, 1234);
  EXPECT_THAT(std::string(refused.message()),
              testing::AllOf(HasSubstr("log directory " + path_), HasSubstr("belongs to user 65534")));
  EXPECT_TRUE(CheckDirectoryOwner(own->get(), "log directory", path_, kStranger).ok());
}

}  // namespace
}  // namespace supervisor
