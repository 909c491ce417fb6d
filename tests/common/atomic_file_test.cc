#include "common/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "common/unique_fd.h"

namespace supervisor {
namespace {

using ::testing::HasSubstr;

class AtomicFile : public ::testing::Test {
 protected:
  AtomicFile() {
    std::string path = (std::filesystem::temp_directory_path() / "atomic-XXXXXX").string();
    directory_ = mkdtemp(path.data());
  }
  ~AtomicFile() override { std::filesystem::remove_all(directory_); }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  size_t Entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }

  std::string directory_;
};

TEST_F(AtomicFile, WritesReadsAndReplaces) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "one", 0640).ok());
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "two", 0600).ok());
  EXPECT_EQ(*ReadWholeFile(Path("f"), 100), "two");
  struct stat info {};
  ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(Entries(), 1u) << "no temporary file stays behind";
}

TEST_F(AtomicFile, WhatAKilledProcessLeftIsTakenAway) {
  const std::string own = fmt::format("web.record.{}.1.tmp", getpid());
  for (const std::string& name : {std::string("web.record.1.2.tmp"), std::string("other.1.2.tmp"), own,
                                  std::string("web.record"), std::string("web.record.1.tmp"), std::string("1.2.tmp"),
                                  std::string("web.record.a.2.tmp"), std::string(".tmp")}) {
    ASSERT_TRUE(WriteFileAtomically(Path(name), "x", 0600).ok());
  }
  RemoveLeftTemporaries(directory_, [](const std::string& name) { return name.starts_with("web"); });
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    left.insert(entry.path().filename().string());
  }
  EXPECT_EQ(left, (std::set<std::string>{"other.1.2.tmp", own, "web.record", "web.record.1.tmp", "1.2.tmp",
                                         "web.record.a.2.tmp", ".tmp"}));
  RemoveLeftTemporaries(directory_ + "/nowhere", [](const std::string&) { return true; });
}

TEST_F(AtomicFile, ASymbolicLinkIsReplacedAndNotFollowed) {
  ASSERT_TRUE(WriteFileAtomically(Path("victim"), "precious", 0600).ok());
  ASSERT_EQ(symlink(Path("victim").c_str(), Path("f").c_str()), 0);
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "ours", 0600).ok());
  EXPECT_EQ(*ReadWholeFile(Path("victim"), 100), "precious");
  EXPECT_EQ(*ReadWholeFile(Path("f"), 100), "ours");
}

TEST_F(AtomicFile, AFailedWriteLeavesTheOldFileWhole) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "old", 0600).ok());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);  // as a full disk would, but with EFBIG
  const absl::Status status = WriteFileAtomically(Path("f"), std::string(100'000, 'x'), 0600);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(*ReadWholeFile(Path("f"), 100), "old");
  EXPECT_EQ(Entries(), 1u);
}

TEST_F(AtomicFile, APageIsWrittenOverAPageAndAnythingElseAnew) {
  const auto inode = [this] {
    struct stat info {};
    EXPECT_EQ(stat(Path("f").c_str(), &info), 0);
    return info.st_ino;
  };
  const std::string one(kPageSize, '1');
  const std::string two(kPageSize, '2');
  ASSERT_TRUE(WritePage(Path("f"), one, 0600).ok());
  const UniqueFd holds_the_inode(open(Path("f").c_str(), O_RDONLY | O_CLOEXEC));  // or its number may come again
  const ino_t first = inode();
  ASSERT_TRUE(WritePage(Path("f"), two, 0600).ok());
  EXPECT_EQ(inode(), first);
  EXPECT_EQ(*ReadWholeFile(Path("f"), 2 * kPageSize), two);
  ASSERT_TRUE(WritePage(Path("f"), "short", 0600).ok());
  EXPECT_NE(inode(), first);
  EXPECT_EQ(*ReadWholeFile(Path("f"), 2 * kPageSize), "short");
  ASSERT_TRUE(WritePage(Path("f"), one, 0600).ok());
  EXPECT_EQ(*ReadWholeFile(Path("f"), 2 * kPageSize), one);

  ASSERT_EQ(link(Path("f").c_str(), Path("other").c_str()), 0);
  ASSERT_TRUE(WritePage(Path("f"), two, 0600).ok());
  EXPECT_EQ(*ReadWholeFile(Path("other"), 2 * kPageSize), one) << "what another name leads to is not ours alone";
  ASSERT_EQ(unlink(Path("f").c_str()), 0);
  ASSERT_EQ(symlink(Path("other").c_str(), Path("f").c_str()), 0);
  ASSERT_TRUE(WritePage(Path("f"), two, 0600).ok());
  EXPECT_EQ(*ReadWholeFile(Path("other"), 2 * kPageSize), one);
  EXPECT_EQ(*ReadWholeFile(Path("f"), 2 * kPageSize), two);
}

TEST_F(AtomicFile, ErrorsNameThePath) {
  const absl::Status status = WriteFileAtomically(Path("no/such/f"), "x", 0600);
  EXPECT_THAT(std::string(status.message()), HasSubstr(Path("no/such/f") + ": No such file or directory (ENOENT)"));
  EXPECT_THAT(std::string(ReadWholeFile(directory_, 10).status().message()), HasSubstr("not a regular file"));
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "12345", 0600).ok());
  EXPECT_FALSE(ReadWholeFile(Path("f"), 4).ok());
}

TEST_F(AtomicFile, MakesDirectoriesAndNamesWhatIsInTheWay) {
  EXPECT_TRUE(MakeDirectories(Path("a/b/c"), 0755).ok());
  EXPECT_TRUE(MakeDirectories(Path("a/b/c"), 0755).ok());
  ASSERT_TRUE(WriteFileAtomically(Path("file"), "", 0600).ok());
  EXPECT_THAT(std::string(MakeDirectories(Path("file"), 0755).message()), HasSubstr("Not a directory"));
  EXPECT_FALSE(MakeDirectories(Path("file/below"), 0755).ok());
}

}  // namespace
}  // namespace supervisor
