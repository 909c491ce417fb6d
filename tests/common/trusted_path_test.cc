#include "common/trusted_path.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/shell_word.h"

namespace supervisor {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;

// The rule of root's daemon: what it says does not depend on who runs the test.
TrustRule RootRule() { return {.harm = "run anything as root", .advice = "advice"}; }

PathNode Node(mode_t mode, uid_t uid, gid_t gid = 0) {
  PathNode node;
  node.info.st_mode = mode;
  node.info.st_uid = uid;
  node.info.st_gid = gid;
  node.info.st_nlink = 1;
  return node;
}

struct Judged {
  const char* title;
  PathNode node;
  const char* path;
  const char* expected;  // nullptr: trusted
};

TEST(Distrust, EachKindOfComponent) {
  const auto read_only = [](PathNode node) {
    node.is_read_only = true;
    return node;
  };
  const auto in_sticky = [](PathNode node, nlink_t names = 1) {
    node.is_in_sticky = true;
    node.info.st_nlink = names;
    return node;
  };
  const auto with_acl = [](PathNode node) {
    node.has_acl = true;
    return node;
  };
  const auto user_mount = [](PathNode node) {
    node.is_user_mount = true;
    return node;
  };
  const Judged table[] = {
      {"root's file", Node(S_IFREG | 0644, 0), "/d/f", nullptr},
      {"of root's group", Node(S_IFREG | 0664, 0, 0), "/d/f", nullptr},
      {"readable by a group", Node(S_IFREG | 0640, 0, 50), "/d/f", nullptr},
      {"another's file", Node(S_IFREG | 0600, 1000), "/d/f", "belongs to uid 1000, who could so run anything as root"},
      {"another's unwritable file", Node(S_IFREG | 0444, 1000), "/d/f", "belongs to uid 1000"},
      {"a group's file", Node(S_IFREG | 0664, 0, 50), "/d/f",
       "is writable by the group 50 (mode 0664), which could so"},
      {"everyone's file", Node(S_IFREG | 0666, 0), "/d/f", "is writable by everyone (mode 0666), who could so"},
      {"write-only for others", Node(S_IFREG | 0602, 0), "/d/f", "is writable by everyone (mode 0602)"},
      {"a file with a sticky bit", Node(S_IFREG | S_ISVTX | 0666, 0), "/d/f", "is writable by everyone (mode 1666)"},
      {"a list of those who may write", with_acl(Node(S_IFREG | 0660, 0, 0)), "/d/f",
       "is writable by those whom its access control list names (mode 0660)"},
      {"a list of those who may read", with_acl(Node(S_IFREG | 0640, 0, 0)), "/d/f", nullptr},
      {"another's file, unchangeable", read_only(Node(S_IFREG | 0666, 1000)), "/d/f", nullptr},
      {"a file by a link", Node(S_IFREG | 0600, 1000), "/other", "leads to /other, which belongs to uid 1000"},

      {"root's directory", Node(S_IFDIR | 0755, 0), "/d", nullptr},
      {"another's directory", Node(S_IFDIR | 0700, 1000), "/d", "lies below /d, which belongs to uid 1000"},
      {"everyone's directory", Node(S_IFDIR | 0777, 0), "/d",
       "lies below /d, which is writable by everyone (mode 0777)"},
      {"a group's directory", Node(S_IFDIR | 0775, 0, 50), "/d", "lies below /d, which is writable by the group 50"},
      {"as /tmp", Node(S_IFDIR | S_ISVTX | 0777, 0), "/d", nullptr},
      {"a group's, sticky", Node(S_IFDIR | S_ISVTX | 0775, 0, 50), "/d", nullptr},
      {"another's, sticky", Node(S_IFDIR | S_ISVTX | 0777, 1000), "/d", "lies below /d, which belongs to uid 1000"},
      {"everyone's, unchangeable", read_only(Node(S_IFDIR | 0777, 1000)), "/d", nullptr},
      {"with a list of writers", with_acl(Node(S_IFDIR | 0770, 0)), "/d", "which is writable by those whom"},

      {"root's link", Node(S_IFLNK | 0777, 0), "/l", nullptr},
      {"another's link", Node(S_IFLNK | 0777, 1000), "/l",
       "lies behind the symbolic link /l, which belongs to uid 1000"},
      {"another's link, unchangeable", read_only(Node(S_IFLNK | 0777, 1000)), "/l", nullptr},
      {"the path itself is another's link", Node(S_IFLNK | 0777, 1000), "/d/f",
       "is a symbolic link, which belongs to uid 1000"},

      {"root's file in /tmp", in_sticky(Node(S_IFREG | 0600, 0)), "/d/f", nullptr},
      {"another's in /tmp", in_sticky(Node(S_IFREG | 0600, 1000)), "/d/f", "belongs to uid 1000"},
      {"one more name in /tmp", in_sticky(Node(S_IFREG | 0600, 0), 2), "/d/f", "has 2 names (hard links)"},
      {"one more name of a link", in_sticky(Node(S_IFLNK | 0777, 0), 2), "/d/f", "has 2 names (hard links)"},
      {"a directory in /tmp", in_sticky(Node(S_IFDIR | 0755, 0), 2), "/d", nullptr},
      {"FUSE mounted in /tmp", in_sticky(user_mount(Node(S_IFDIR | 0755, 0))), "/d", "is a FUSE file system"},
      {"a read-only one", read_only(in_sticky(user_mount(Node(S_IFDIR | 0755, 0)))), "/d", "is a FUSE file system"},
      {"FUSE mounted by root", user_mount(Node(S_IFDIR | 0755, 0)), "/d", nullptr},
  };
  for (const Judged& row : table) {
    SCOPED_TRACE(row.title);
    const std::optional<std::string> distrust = Distrust("/d/f", row.path, row.node, RootRule());
    if (row.expected == nullptr) {
      EXPECT_EQ(distrust, std::nullopt);
    } else {
      ASSERT_TRUE(distrust.has_value());
      EXPECT_THAT(*distrust, HasSubstr(row.expected));
      EXPECT_THAT(*distrust, testing::EndsWith("(advice)"));
    }
  }
}

TEST(Distrust, WhoElseIsTrusted) {
  TrustRule rule = RootRule();
  rule.uids = {1000};
  rule.gids = {100};
  EXPECT_EQ(Distrust("/f", "/f", Node(S_IFREG | 0664, 1000, 100), rule), std::nullopt);
  EXPECT_EQ(Distrust("/f", "/f", Node(S_IFREG | 0664, 0, 0), rule), std::nullopt);
  EXPECT_NE(Distrust("/f", "/f", Node(S_IFREG | 0664, 1000, 101), rule), std::nullopt);
  EXPECT_NE(Distrust("/f", "/f", Node(S_IFREG | 0644, 1001, 100), rule), std::nullopt);
}

TEST(Distrust, TheAdviceIsACommandAndTheWayOut) {
  TrustRule rule = RootRule();
  rule.advice.clear();
  EXPECT_EQ(*Distrust("/a b", "/a b", Node(S_IFREG | 0666, 0), rule),
            "is writable by everyone (mode 0666), who could so run anything as root (run: chmod go-w '/a b'; or start "
            "supervisord with --trust-files any)");
}

TEST(ShellWord, QuotesWhatAShellWouldSplit) {
  EXPECT_EQ(ShellWord("/a/b-c_d.e"), "/a/b-c_d.e");
  EXPECT_EQ(ShellWord("/a b/it's"), "'/a b/it'\\''s'");
  EXPECT_EQ(ShellWord(""), "''");
}

// A directory below /tmp that is ours, removed at the end.
class TrustedWalk : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/trusted_path_test.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    rule_ = OwnTrust(FileTrust::kStrict);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::string At(const std::string& name) const { return root_ + "/" + name; }
  std::string Write(const std::string& name) const {
    std::filesystem::create_directories(std::filesystem::path(At(name)).parent_path());
    std::ofstream(At(name)) << name;
    return At(name);
  }
  void Link(const std::string& target, const std::string& name) const {
    std::filesystem::create_symlink(target, At(name));
  }
  // "" where it opens and holds `content`.
  std::string Open(const std::string& path, const std::string& content) const {
    const absl::StatusOr<UniqueFd> fd = OpenTrustedFile(path, O_RDONLY, rule_);
    if (!fd.ok()) {
      return std::string(fd.status().message());
    }
    char text[64];
    const ssize_t size = read(fd->get(), text, sizeof text);
    const std::string got(text, size > 0 ? static_cast<size_t>(size) : 0);
    return got == content ? "" : "holds " + got;
  }

  std::string root_;
  TrustRule rule_;
};

TEST_F(TrustedWalk, OpensWhatThePathNames) {
  Write("a/b/f");
  Link("b", "a/relative");
  Link(At("a/b"), "a/absolute");
  Link("../a/b/f", "a/file");
  Link("file", "a/again");
  for (const char* name : {"a/b/f", "a//b/./f", "a/b/../b/f", "a/relative/f", "a/absolute/f", "a/absolute/../b/f",
                           "a/file", "a/again", "../../../../tmp/../a/b/f"}) {
    const std::string path = std::string(name).starts_with("..") ? "/tmp/.." + At("a/b/f") : At(name);
    EXPECT_EQ(Open(path, "a/b/f"), "") << path;
  }
}

TEST_F(TrustedWalk, SaysWhyNothingIsOpened) {
  Write("f");
  Link("loop", "loop");
  Link("nowhere", "dangling");
  std::filesystem::create_directory(At("d"));
  ASSERT_EQ(mkfifo(At("fifo").c_str(), 0600), 0);
  const std::vector<std::pair<std::string, std::string>> table = {
      {At("none"), "No such file or directory (ENOENT)"},
      {At("none/f"), "No such file or directory (ENOENT)"},
      {At("dangling"), "No such file or directory (ENOENT)"},
      {At("f/f"), "Not a directory (ENOTDIR)"},
      {At("f/"), "Not a directory (ENOTDIR)"},
      {At("f/."), "Not a directory (ENOTDIR)"},
      {At("loop"), "Too many levels of symbolic links (ELOOP)"},
      {At(std::string(300, 'x')), "File name too long (ENAMETOOLONG)"},
      {At("d"), "is a directory (expected a file)"},
      {"/", "is a directory (expected a file)"},
      {At("fifo"), "is no regular file (expected one, not a device, pipe or socket)"},
      {"/dev/null", "is no regular file (expected one, not a device, pipe or socket)"},
      {"", "No such file or directory (ENOENT)"},
  };
  for (const auto& [path, message] : table) {
    EXPECT_EQ(Open(path, ""), path + ": " + message);
  }
  EXPECT_TRUE(absl::IsNotFound(OpenTrustedFile(At("none"), O_RDONLY, rule_).status()));
}

TEST_F(TrustedWalk, ADirectoryThatOthersMayWriteIsRefusedWhereverItStands) {
  const std::string path = Write("open/below/f");
  chmod(At("open").c_str(), 0777);
  Link("open/below/f", "file");
  Link("open/below", "directory");
  Link(At("open"), "above");
  const std::string reason = "lies below " + At("open") + ", which is writable by everyone (mode 0777)";
  for (const std::string& way :
       {path, At("file"), At("directory/f"), At("above/below/f"), At("open/../open/below/f")}) {
    EXPECT_THAT(Open(way, "open/below/f"), HasSubstr(reason)) << way;
  }
  EXPECT_FALSE(OpenTrustedDirectory(At("open/below"), rule_).ok());
  EXPECT_FALSE(MakeTrustedDirectory(At("open/new"), 0755, rule_).ok());
  EXPECT_FALSE(std::filesystem::exists(At("open/new")));
  rule_.level = FileTrust::kAny;
  EXPECT_EQ(Open(path, "open/below/f"), "");
  EXPECT_TRUE(MakeTrustedDirectory(At("open/new"), 0755, rule_).ok());
  rule_.level = FileTrust::kStrict;
  chmod(At("open").c_str(), 01777);
  EXPECT_EQ(Open(path, "open/below/f"), "");
}

TEST_F(TrustedWalk, MakesDirectoriesAndOpensThem) {
  const absl::StatusOr<UniqueFd> made = MakeTrustedDirectory(At("a/b/c"), 0700, rule_);
  ASSERT_TRUE(made.ok()) << made.status();
  struct stat by_fd = {};
  struct stat by_name = {};
  ASSERT_EQ(fstat(made->get(), &by_fd), 0);
  ASSERT_EQ(stat(At("a/b/c").c_str(), &by_name), 0);
  EXPECT_EQ(by_fd.st_ino, by_name.st_ino);
  EXPECT_EQ(by_name.st_mode & 07777U, 0700U);
  EXPECT_TRUE(OpenTrustedDirectory(At("a/b/c/"), rule_).ok());
  Write("file");
  EXPECT_EQ(OpenTrustedDirectory(At("file"), rule_).status().message(), At("file") + ": Not a directory (ENOTDIR)");
  EXPECT_FALSE(MakeTrustedDirectory(At("file/x"), 0700, rule_).ok());
}

TEST_F(TrustedWalk, ARelativePathStartsAtTheWorkingDirectory) {
  Write("f");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(root_);
  const std::string result = Open("./f", "f");
  std::filesystem::current_path(before);
  EXPECT_EQ(result, "");
}

class TrustedWalkOfRoot : public TrustedWalk {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "only root can make what belongs to others";
    }
    TrustedWalk::SetUp();
  }
  void GiveAway(const std::string& name) const { ASSERT_EQ(lchown(At(name).c_str(), kNobody, kNobody), 0); }
};

// Each of these is how somebody could have a file of his own, or one that he chose, obeyed.
TEST_F(TrustedWalkOfRoot, WhatAnotherUserMadeIsRefused) {
  const std::string path = Write("his/root.json");
  GiveAway("his");
  EXPECT_THAT(Open(path, ""), HasSubstr("lies below " + At("his") + ", which belongs to uid 65534"));

  Write("log");
  Link(At("log"), "link.json");
  GiveAway("link.json");
  EXPECT_THAT(Open(At("link.json"), ""), HasSubstr("is a symbolic link, which belongs to uid 65534"));

  Link(At(""), "directory");
  GiveAway("directory");
  EXPECT_THAT(Open(At("directory/log"), ""),
              HasSubstr("lies behind the symbolic link " + At("directory") + ", which belongs to uid 65534"));

  std::filesystem::create_directory(At("tmp"));
  chmod(At("tmp").c_str(), 01777);
  std::filesystem::create_hard_link(At("log"), At("tmp/linked.json"));
  EXPECT_THAT(Open(At("tmp/linked.json"), ""), HasSubstr("has 2 names (hard links)"));
  EXPECT_EQ(Open(At("log"), "log"), "");  // where nobody else can make names

  std::filesystem::create_directory(At("tmp/runtime"));
  GiveAway("tmp/runtime");
  EXPECT_THAT(std::string(MakeTrustedDirectory(At("tmp/runtime"), 0700, rule_).status().message()),
              HasSubstr("belongs to uid 65534"));
}

TEST_F(TrustedWalkOfRoot, AnotherTrustedUsersFileIsOpened) {
  const std::string path = Write("his/f");
  GiveAway("his");
  GiveAway("his/f");
  rule_.uids = {kNobody};
  EXPECT_EQ(Open(path, "his/f"), "");
}

}  // namespace
}  // namespace supervisor
