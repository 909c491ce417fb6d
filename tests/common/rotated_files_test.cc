#include "common/rotated_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "common/file_access.h"
#include "common/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace supervisor {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class RotatedFilesTest : public testing::Test {
 protected:
  RotatedFilesTest() {
    std::string name = testing::TempDir() + "supervisor_rotated_XXXXXX";
    path_ = mkdtemp(name.data()) == nullptr ? "" : name;
    directory_.Reset(open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  RotatedFilesTest(const RotatedFilesTest&) = delete;
  RotatedFilesTest& operator=(const RotatedFilesTest&) = delete;
  ~RotatedFilesTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ + "/" + name) << content;
  }
  // "-" where there is no such file.
  std::string Content(const std::string& name) const {
    std::ifstream file(path_ + "/" + name);
    std::string content;
    return std::getline(file, content) || file.eof() ? (std::filesystem::exists(path_ + "/" + name) ? content : "-")
                                                     : "-";
  }
  void Rotate(const std::string& content, int max_files) {
    Write("log", content);
    EXPECT_TRUE(ShiftRotatedFiles(directory_.get(), path_, "log", max_files, ledger_).ok());
  }
  std::vector<std::string> Numbered(int count) const {
    std::vector<std::string> contents;
    for (int index = 1; index <= count; ++index) {
      contents.push_back(Content(RotatedName("log", index)));
    }
    return contents;
  }

  std::string path_;
  UniqueFd directory_;
  RotationLedger ledger_;
};

TEST_F(RotatedFilesTest, TheOldestOwnFileGoes) {
  for (const char* content : {"a", "b", "c", "d"}) {
    Rotate(content, 2);
  }
  EXPECT_THAT(Numbered(3), ElementsAre("d", "c", "-"));
}

TEST_F(RotatedFilesTest, AnotherProgramsFileMovesUpAndStays) {
  Write("log.1", "other");
  for (const char* content : {"a", "b", "c"}) {
    Rotate(content, 2);
  }
  EXPECT_THAT(Numbered(4), ElementsAre("c", "b", "other", "-"));
}

TEST_F(RotatedFilesTest, AnotherProgramsFilesBehindOwnOnesStayWhereTheyAre) {
  Write("log.3", "other");
  for (const char* content : {"a", "b", "c", "d"}) {
    Rotate(content, 2);
  }
  EXPECT_THAT(Numbered(4), ElementsAre("d", "c", "other", "-"));
}

TEST_F(RotatedFilesTest, OwnFilesBeyondASmallerNumberGoAtTheNextRotation) {
  for (const char* content : {"a", "b", "c", "d"}) {
    Rotate(content, 4);
  }
  Rotate("e", 1);
  EXPECT_THAT(Numbered(4), ElementsAre("e", "-", "-", "-"));
}

TEST_F(RotatedFilesTest, PruningTakesOwnFilesAloneAndNamesThem) {
  for (const char* content : {"a", "b", "c"}) {
    Rotate(content, 3);
  }
  Write("log.4", "other");
  Write("log.5.gz", "other");
  EXPECT_THAT(PruneRotatedFiles(directory_.get(), "log", 1, ledger_), ElementsAre("log.2", "log.3"));
  EXPECT_THAT(Numbered(4), ElementsAre("c", "-", "-", "other"));
  EXPECT_EQ(Content("log.5.gz"), "other");
  EXPECT_THAT(PruneRotatedFiles(directory_.get(), "log", 0, RotationLedger()), IsEmpty()) << "nothing is known of";
}

TEST_F(RotatedFilesTest, TheLedgerOutlivesTheProcess) {
  Rotate("a", 3);
  Rotate("b", 3);
  RotationLedger next;
  EXPECT_FALSE(next.HasFile(directory_.get(), "log.1"));
  next.Load(directory_.get(), "log");
  EXPECT_TRUE(next.HasFile(directory_.get(), "log.1"));
  EXPECT_TRUE(next.HasFile(directory_.get(), "log.2"));
  Write("log", "present");
  EXPECT_FALSE(next.HasFile(directory_.get(), "log"));
  EXPECT_FALSE(next.HasFile(directory_.get(), "missing"));
}

TEST_F(RotatedFilesTest, ATornOrForeignLedgerCostsWhatItDoesNotSay) {
  Rotate("a", 3);
  const std::string ledger = path_ + "/" + LedgerName("log");
  std::ofstream(ledger, std::ios::app) << "garbage\n12 x\n -3 4 5\n77 8";  // the last is cut short
  RotationLedger next;
  next.Load(directory_.get(), "log");
  EXPECT_TRUE(next.HasFile(directory_.get(), "log.1"));
  EXPECT_FALSE(next.Has({.device = 0, .inode = 77, .born_ns = 8}));
  // What comes then is a line of its own.
  EXPECT_TRUE(next.Add(directory_.get(), "log", {.device = 1, .inode = 99, .born_ns = 5}));
  RotationLedger third;
  third.Load(directory_.get(), "log");
  EXPECT_TRUE(third.Has({.device = 2, .inode = 99, .born_ns = 5})) << "the device may have another number by now";

  ASSERT_EQ(chmod(ledger.c_str(), 0666), 0);
  RotationLedger writable;
  writable.Load(directory_.get(), "log");
  EXPECT_FALSE(writable.HasFile(directory_.get(), "log.1")) << "others may have written to it";

  ASSERT_EQ(unlink(ledger.c_str()), 0);
  ASSERT_EQ(symlink("/etc/passwd", ledger.c_str()), 0);
  RotationLedger linked;
  linked.Load(directory_.get(), "log");
  EXPECT_FALSE(linked.Add(directory_.get(), "log", {.device = 0, .inode = 1, .born_ns = 1}));
}

TEST_F(RotatedFilesTest, TheLedgerGoesAlongWhenALogGetsAnotherName) {
  EXPECT_TRUE(RotationLedger::Move(directory_.get(), "log", "other")) << "there is none";
  Rotate("one", 3);
  Rotate("two", 3);
  ASSERT_TRUE(RotationLedger::Move(directory_.get(), "log", "other"));
  RotationLedger other;
  other.Load(directory_.get(), "other");
  EXPECT_TRUE(other.HasFile(directory_.get(), "log.1"));
  EXPECT_TRUE(other.HasFile(directory_.get(), "log.2"));
  // The other log has one by now: nothing of either is forgotten.
  ledger_ = RotationLedger();
  Rotate("three", 3);
  ASSERT_TRUE(RotationLedger::Move(directory_.get(), "log", "other"));
  RotationLedger both;
  both.Load(directory_.get(), "other");
  for (const char* name : {"log.1", "log.2", "log.3"}) {
    EXPECT_TRUE(both.HasFile(directory_.get(), name)) << name;
  }
  RotationLedger former;
  former.Load(directory_.get(), "log");
  EXPECT_FALSE(former.HasFile(directory_.get(), "log.1"));
}

TEST_F(RotatedFilesTest, TheLedgerStaysShort) {
  for (int i = 0; i < 5000; ++i) {
    Rotate("line", 3);
  }
  EXPECT_LT(std::filesystem::file_size(path_ + "/" + LedgerName("log")), 200'000u);
  RotationLedger next;
  next.Load(directory_.get(), "log");
  for (const char* name : {"log.1", "log.2", "log.3"}) {
    EXPECT_TRUE(next.HasFile(directory_.get(), name)) << name;
  }
}

TEST_F(RotatedFilesTest, AccessIsGivenAsFarAsItDiffers) {
  Write("from", "");
  Write("to", "");
  ASSERT_EQ(chmod((path_ + "/from").c_str(), 0604), 0);
  const UniqueFd from(open((path_ + "/from").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd to(open((path_ + "/to").c_str(), O_RDWR | O_CLOEXEC));
  const auto access = AccessOf(from.get());
  ASSERT_TRUE(access);
  EXPECT_EQ(access->mode, 0604u);
  EXPECT_EQ(GiveAccess(to.get(), *access), 0);
  EXPECT_EQ(AccessOf(to.get()), access);
  EXPECT_NE(GiveAccess(-1, *access), 0);
}

}  // namespace
}  // namespace supervisor
