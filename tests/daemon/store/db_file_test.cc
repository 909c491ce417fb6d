#include "daemon/store/db_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace supervisor {
namespace {

using ::testing::HasSubstr;

class DbFileTest : public ::testing::Test {
 protected:
  DbFileTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "db_file_test.XXXXXX").string();
    root_ = std::filesystem::canonical(mkdtemp(pattern.data())).string();
  }
  ~DbFileTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  std::string In(const std::string& name) const { return root_ + "/" + name; }
  static mode_t ModeOf(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }
  static void Write(const std::string& path, const std::string& content) { std::ofstream(path) << content; }

  std::string root_;
};

TEST_F(DbFileTest, ANewFileTakesOverTheAccessOfTheOldOne) {
  ASSERT_TRUE(CreateDatabaseFile(In("new.db")).ok());
  EXPECT_EQ(ModeOf(In("new.db")), 0640);
  DbFileAccess access = *AccessOf(In("new.db"));
  access.mode = 0644;
  ASSERT_TRUE(CreateDatabaseFile(In("next.db"), access).ok());
  EXPECT_EQ(AccessOf(In("next.db")), access);
}

TEST_F(DbFileTest, SideFilesFollowTheDatabase) {
  Write(In("x.db"), "");
  Write(In("x.db-wal"), "w");
  Write(In("x.db-shm"), "s");
  DbFileAccess access = *AccessOf(In("x.db"));
  access.mode = 0604;
  MatchSideFiles(In("x.db"), access);
  EXPECT_EQ(AccessOf(In("x.db-wal")), access);
  EXPECT_EQ(AccessOf(In("x.db-shm")), access);
}

TEST_F(DbFileTest, WhatIsNoSideFileIsLeftAlone) {
  Write(In("x.db"), "");
  Write(In("other"), "");
  ASSERT_EQ(chmod(In("other").c_str(), 0600), 0);
  ASSERT_EQ(symlink(In("other").c_str(), In("x.db-wal").c_str()), 0);
  ASSERT_EQ(link(In("other").c_str(), In("x.db-shm").c_str()), 0);
  DbFileAccess access = *AccessOf(In("x.db"));
  access.mode = 0666;
  MatchSideFiles(In("x.db"), access);
  EXPECT_EQ(ModeOf(In("other")), 0600);
}

TEST_F(DbFileTest, MakesMissingDirectories) {
  const auto path = ResolveDatabasePath(In("a/b/./../b/x.db"));
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, In("a/b/x.db"));
  EXPECT_EQ(ModeOf(In("a")), 0750);
  EXPECT_EQ(ModeOf(In("a/b")), 0750);
}

TEST_F(DbFileTest, TakesARelativePath) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(root_);
  EXPECT_EQ(*ResolveDatabasePath("x.db"), In("x.db"));
  EXPECT_EQ(*ResolveDatabasePath("sub/x.db"), In("sub/x.db"));
  std::filesystem::current_path(before);
}

TEST_F(DbFileTest, RefusesWhatIsNoFileName) {
  for (const std::string path : {"", "/", "dir/", "/tmp/.."}) {
    EXPECT_EQ(ResolveDatabasePath(path).status().code(), absl::StatusCode::kInvalidArgument) << path;
  }
}

TEST_F(DbFileTest, AFileInPlaceOfTheDirectoryIsNamed) {
  Write(In("file"), "");
  const auto path = ResolveDatabasePath(In("file/x.db"));
  EXPECT_THAT(std::string(path.status().message()), HasSubstr(In("file") + ": Not a directory"));
}

TEST_F(DbFileTest, FollowsOurOwnLinksAndRootsOnly) {
  std::filesystem::create_directory(In("real"));
  ASSERT_EQ(symlink("real", In("link").c_str()), 0);
  EXPECT_EQ(*ResolveDatabasePath(In("link/x.db")), In("real/x.db"));
  if (geteuid() != 0) {
    GTEST_SKIP() << "only root can give a link away";
  }
  ASSERT_EQ(lchown(In("link").c_str(), 65534, 65534), 0);
  const auto path = ResolveDatabasePath(In("link/x.db"));
  EXPECT_EQ(path.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(path.status().message()), HasSubstr("symbolic link of uid 65534"));
}

TEST_F(DbFileTest, LinksInACircleEnd) {
  ASSERT_EQ(symlink("b", In("a").c_str()), 0);
  ASSERT_EQ(symlink("a", In("b").c_str()), 0);
  EXPECT_THAT(std::string(ResolveDatabasePath(In("a/x.db")).status().message()), HasSubstr("ELOOP"));
}

TEST_F(DbFileTest, MakesAFileForOwnerAndGroup) {
  const mode_t before = umask(0);
  Write(In("x.db-wal"), "of a database that was deleted");
  const auto identity = CreateDatabaseFile(In("x.db"));
  umask(before);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(ModeOf(In("x.db")), 0640);
  EXPECT_EQ(IdentifyFile(In("x.db")), *identity);
  EXPECT_FALSE(std::filesystem::exists(In("x.db-wal")));
}

TEST_F(DbFileTest, AnExistingFileIsLeftAlone) {
  Write(In("x.db"), "content");
  Write(In("x.db-wal"), "log");
  ASSERT_TRUE(CreateDatabaseFile(In("x.db")).ok());
  EXPECT_EQ(std::filesystem::file_size(In("x.db")), 7);
  EXPECT_TRUE(std::filesystem::exists(In("x.db-wal")));
}

TEST_F(DbFileTest, WhatIsNoFileIsRefused) {
  ASSERT_EQ(symlink("elsewhere", In("link.db").c_str()), 0);
  std::filesystem::create_directory(In("dir.db"));
  ASSERT_EQ(mkfifo(In("fifo.db").c_str(), 0600), 0);
  EXPECT_THAT(std::string(CreateDatabaseFile(In("link.db")).status().message()), HasSubstr("is a symbolic link"));
  EXPECT_THAT(std::string(CreateDatabaseFile(In("dir.db")).status().message()), HasSubstr("is a directory"));
  EXPECT_THAT(std::string(CreateDatabaseFile(In("fifo.db")).status().message()), HasSubstr("not a regular file"));
  EXPECT_FALSE(std::filesystem::exists(In("elsewhere")));
}

TEST_F(DbFileTest, SetsAsideWithItsLog) {
  const absl::Time at = absl::FromCivil(absl::CivilSecond(2026, 11, 23, 7, 28, 15), absl::UTCTimeZone());
  const std::string kept = In("x.db.malformed-20261123072815");
  Write(In("x.db"), "1");
  Write(In("x.db-wal"), "1");
  Write(In("x.db-shm"), "1");
  EXPECT_EQ(*SetDatabaseAside(In("x.db"), at), kept);
  for (const std::string suffix : {"", "-wal", "-shm"}) {
    EXPECT_TRUE(std::filesystem::exists(kept + suffix));
    EXPECT_FALSE(std::filesystem::exists(In("x.db" + suffix)));
  }
  Write(In("x.db"), "2");
  EXPECT_EQ(*SetDatabaseAside(In("x.db"), at), kept + "-2");
}

}  // namespace
}  // namespace supervisor
