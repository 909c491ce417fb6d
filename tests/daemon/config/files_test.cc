#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "daemon/config/config_file.h"
#include "daemon/config/load.h"
#include "tests/daemon/config/config_files.h"

namespace supervisor {
namespace {

constexpr uid_t kNobody = 65534;

std::string FirstError(const std::string& file) {
  const LoadedConfig loaded = LoadConfig(file);
  return loaded.errors.empty() ? "" : loaded.errors[0].ToString();
}

TEST(ConfigFile, WhatCannotBeReadIsNamedWithWhatToDo) {
  const ConfigFiles files;
  const std::string none = files.PathOf("none.json");
  EXPECT_EQ(
      FirstError(none),
      none + ": cannot be opened: No such file or directory (ENOENT) (create it, or name another file with -c FILE)");
  const std::string deep = files.PathOf("a/b/none.json");
  EXPECT_EQ(FirstError(deep), deep + ": cannot be opened: No such file or directory (ENOENT) (the directory " +
                                  files.PathOf("a/b") + " does not exist either; name another file with -c FILE)");
  EXPECT_EQ(FirstError(files.directory()),
            files.directory() +
                ": is a directory (expected a file in it, such as supervisor_config.json; name one with -c FILE)");
  EXPECT_EQ(FirstError("/dev/null"), "/dev/null: is no regular file (expected one, not a device, pipe or socket)");
  EXPECT_EQ(FirstError(""),
            ": cannot be found: the name is empty, or relative to a directory that is gone (expected an absolute path "
            "after -c)");
}

// Nobody writes the FIFO: opening it must not wait for someone.
TEST(ConfigFile, AFifoIsRefusedAtOnce) {
  const ConfigFiles files;
  const std::string path = files.PathOf("fifo");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(FirstError(path), path + ": is no regular file (expected one, not a device, pipe or socket)");
}

TEST(ConfigFile, AnotherUsersFileCannotBeReadByAnOrdinaryUser) {
  const ConfigFiles files;
  const std::string path = files.Write("x.json", "{}");
  chmod(path.c_str(), 0);
  if (geteuid() == 0) {
    GTEST_SKIP() << "root reads everything";
  }
  EXPECT_THAT(FirstError(path), testing::HasSubstr("cannot be opened: Permission denied (EACCES) (uid "));
}

TEST(ConfigFile, SizeIsBounded) {
  const ConfigFiles files;
  const std::string path = files.Write("x.json", "{}");
  ASSERT_EQ(truncate(path.c_str(), (16 << 20) + 1), 0);
  EXPECT_EQ(FirstError(path), path + ": is 16777217 bytes long (expected at most 16777216)");
  files.Write("x.json", "{}" + std::string((16 << 20) - 2, ' '));
  EXPECT_EQ(FirstError(path), "");
}

class AsRoot : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "only root distrusts files";
    }
  }
  const ConfigFiles files_;
};

TEST_F(AsRoot, RefusesFilesThatOthersCanWrite) {
  const std::string path = files_.Write("x.json", "{}");
  chmod(path.c_str(), 0666);
  EXPECT_EQ(FirstError(path),
            path + ": is writable by everyone (mode 0666), who could so run anything as root (run: chmod go-w " + path +
                "; or start supervisord with --trust-files any)");
  chmod(path.c_str(), 0644);
  EXPECT_EQ(FirstError(path), "");
  ASSERT_EQ(chown(path.c_str(), kNobody, kNobody), 0);
  EXPECT_THAT(FirstError(path), testing::HasSubstr(": belongs to uid 65534, "));
}

TEST_F(AsRoot, RefusesFilesThatOthersCanExchange) {
  const std::string path = files_.Write("open/below/x.json", "{}");
  chmod(files_.PathOf("open").c_str(), 0777);
  const std::string expected = ": lies below " + files_.PathOf("open") + ", which is writable by everyone (mode 0777)";
  EXPECT_THAT(FirstError(path), testing::HasSubstr(expected));
  // Also where a symbolic link hides the way.
  std::filesystem::create_symlink(path, files_.PathOf("link.json"));
  EXPECT_THAT(FirstError(files_.PathOf("link.json")), testing::HasSubstr(expected));
  std::filesystem::create_directory_symlink(files_.PathOf("open/below"), files_.PathOf("linked"));
  EXPECT_THAT(FirstError(files_.PathOf("linked/x.json")), testing::HasSubstr(expected));
  chmod(files_.PathOf("open").c_str(), 01777);
  EXPECT_EQ(FirstError(path), "");
  EXPECT_EQ(FirstError(files_.PathOf("link.json")), "");
}

TEST_F(AsRoot, RefusesIncludedFilesThatOthersCanWrite) {
  const std::string path = files_.Write("conf.d/x.json", R"({"services": {"a": {"command": "x"}}})");
  chmod(path.c_str(), 0662);
  EXPECT_EQ(
      Joined(files_.Errors(
          R"({"global": {"include": ["conf.d/*.json"]}, "services": {"b": {"command": "x", "depends_on": ["a"]}}})")),
      path + ": is writable by everyone (mode 0662), who could so run anything as root (run: chmod go-w " + path +
          "; or start supervisord with --trust-files any) (included by " + files_.main_file() + ":1:25)\n");
}

TEST_F(AsRoot, TheWayOutTakesThemFromEverybody) {
  const std::string path = files_.Write("open/x.json", "{}");
  chmod(files_.PathOf("open").c_str(), 0777);
  ASSERT_EQ(chown(path.c_str(), kNobody, kNobody), 0);
  EXPECT_FALSE(LoadConfig(path).errors.empty());
  const LoadedConfig loaded = LoadConfig(path, LoadOptions{.trust = FileTrust::kAny});
  EXPECT_TRUE(loaded.errors.empty());
}

TEST_F(AsRoot, TheSocketOfASpoiltFileIsStillFound) {
  const std::string path = files_.Write("x.json", R"({"global": {"socket": "/s"}})");
  chmod(path.c_str(), 0666);
  EXPECT_EQ(LoadSocketPath(path, {.trust = FileTrust::kAny}), "/s");
  EXPECT_EQ(LoadSocketPath(path, {}), std::nullopt);
}

TEST(InheritedDescriptor, IsKnownByItsName) {
  EXPECT_EQ(InheritedDescriptor("/dev/stdin"), 0);
  EXPECT_EQ(InheritedDescriptor("/dev/fd/63"), 63);
  EXPECT_EQ(InheritedDescriptor("/proc/self/fd/3"), 3);
  for (const char* path :
       {"/dev/stdout", "/dev/fd/", "/dev/fd/x", "/dev/fd/3x", "/dev/fd/-1", "/dev/fd/3/x", "/etc/x", ""}) {
    EXPECT_EQ(InheritedDescriptor(path), std::nullopt) << path;
  }
}

TEST(InheritedDescriptor, IsReadOnceAndRemembered) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const std::string text = R"({"global": {"socket": "s.sock"}, "services": {"a": {"command": "./x"}}})";
  ASSERT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(ends[1]);
  const std::string path = "/dev/fd/" + std::to_string(ends[0]);
  const LoadOptions options{.directory = "/srv/app"};
  for (int round = 0; round < 2; ++round) {
    const LoadedConfig loaded = LoadConfig(path, options);
    ASSERT_TRUE(loaded.config) << loaded.errors[0].ToString();
    EXPECT_EQ(loaded.config->services.at("a").working_directory, "/srv/app");
    EXPECT_EQ(loaded.config->services.at("a").run.command, "/srv/app/x");
    EXPECT_EQ(loaded.config->global.socket, "/srv/app/s.sock");
    // What the next daemon reads: the text, and where it refers to.
    const LoadedConfig again = LoadConfig(loaded.texts, options);
    ASSERT_TRUE(again.config);
    EXPECT_EQ(again.config->services.at("a").run.command, "/srv/app/x");
  }
  EXPECT_EQ(LoadSocketPath(path, options), "/srv/app/s.sock");
  close(ends[0]);
}

TEST(LoadConfig, TheMainTextMayBeGiven) {
  const ConfigFiles files;
  files.Write("a.json", R"({"services": {"a": {"command": "x"}}})");
  const LoadOptions options{.main_text = R"({"global": {"include": ["*.json"]}})"};
  const LoadedConfig loaded = LoadConfig(files.PathOf("none"), options);
  ASSERT_TRUE(loaded.config) << loaded.errors[0].ToString();
  EXPECT_EQ(loaded.config->services.size(), 1U);
}

TEST(LoadConfig, ALogIsNoConfiguration) {
  const ConfigFiles files;
  const std::string included = R"({"services": {"a": {"command": "x"}}})";
  const std::string main = R"({"global": {"log_directory": "log", "include": [")";
  for (const char* name : {"log/web.log", "log/web.log.1", "log/web.err.log", "./log/../log/web.log"}) {
    files.Write(name, included);
    EXPECT_THAT(Joined(files.Errors(main + name + "\"]}}")), testing::HasSubstr("has a log's name")) << name;
  }
  for (const char* name : {"log/web.json", "other/web.log"}) {
    files.Write(name, included);
    EXPECT_EQ(Joined(files.Errors(main + name + "\"]}}")), "") << name;
  }
}

TEST(AbsolutePath, JoinsWithoutResolving) {
  EXPECT_EQ(AbsolutePath("/d", "x"), "/d/x");
  EXPECT_EQ(AbsolutePath("/d", "./x"), "/d/x");
  EXPECT_EQ(AbsolutePath("/d", ".//./x"), "/d/x");
  EXPECT_EQ(AbsolutePath("/d", "../x"), "/d/../x");
  EXPECT_EQ(AbsolutePath("/d", ".x"), "/d/.x");
  EXPECT_EQ(AbsolutePath("/d", "."), "/d");
  EXPECT_EQ(AbsolutePath("/d", "./"), "/d");
  EXPECT_EQ(AbsolutePath("/", "x"), "/x");
  EXPECT_EQ(AbsolutePath("/d", "/x"), "/x");
  EXPECT_EQ(DirectoryOf("/x"), "/");
  EXPECT_EQ(DirectoryOf("/a/b"), "/a");
}

TEST(Include, EachFileOnceAndTheMainFileNever) {
  const ConfigFiles files;
  files.Write("a.json", R"({"services": {"a": {"command": "x"}}})");
  files.Write("b.json", R"({"services": {"b": {"command": "x"}}})");
  files.Write(".hidden.json", "rubbish");
  const LoadedConfig loaded = files.Load(R"({"global": {"include": ["*.json", "a.json", "./b.json", "[ab].json"]}})");
  ASSERT_TRUE(loaded.config) << loaded.errors[0].ToString();
  EXPECT_EQ(loaded.config->services.size(), 2U);
}

TEST(Include, ErrorsOfAllFilesAreReportedMainFirstThenByName) {
  const ConfigFiles files;
  const std::string b =
      files.Write("conf.d/b.json", R"({"services": {"b": {"command": "x", "prot": 1}, "main": {"command": "x"}}})");
  const std::string a = files.Write("conf.d/a.json", R"({"global": {}, "services": {"b": {"command": ""}}})");
  const std::string c = files.Write("conf.d/c.json", "{\"services\": {},}");
  const std::string d = files.Write("conf.d/d.json", "[]");
  const std::string e = files.Write("conf.d/e.json", "{}");
  EXPECT_EQ(
      Joined(files.Errors(R"({"services": {"main": {"command": "x", "depends_on": ["unknown-as-long-as-c-is-broken"]}},
 "global": {"include": ["conf.d/*.json", "none.json", "~/x.json"]}})")),
      "2:42: global.include[1]: " + files.PathOf("none.json") +
          ": No such file or directory (ENOENT) (a plain name must exist; a pattern such as \"conf.d/*.json\" may "
          "match nothing)\n"
          "2:55: global.include[2]: begins with \"~\", which only a shell replaces (expected an absolute path, or "
          "${HOME}/...)\n" +
          a + ":1:2: global: an included file holds \"services\" alone (move this key to " + files.main_file() + ")\n" +
          a +
          ":1:46: services.b.command: is empty (expected the program to run, such as \"python3\", its arguments in "
          "\"args\")\n" +
          b + ":1:15: services.b: this service is defined twice (it already stands at " + a + ":1:29)\n" + b +
          ":1:37: services.b.prot: unknown key (did you mean \"port\"?)\n" + b +
          ":1:49: services.main: this service is defined twice (it already stands at " + files.main_file() +
          ":1:15)\n" + c + ":1:16: a trailing comma before \"}\" (JSON allows none: remove it)\n" + d +
          ":1:1: is a list (expected an object: {...})\n" + e +
          ":1:1: services: is missing (expected {\"services\": {...}})\n");
}

TEST(Include, APlainNameOfADirectoryIsAnError) {
  const ConfigFiles files;
  files.Write("conf.d/a.json", "{}");
  EXPECT_EQ(Joined(files.Errors(R"({"global": {"include": ["conf.d"]}})")),
            files.PathOf("conf.d") +
                ": is a directory (expected a file in it, such as supervisor_config.json; name one with -c FILE)"
                " (included by " +
                files.main_file() + ":1:25)\n");
}

}  // namespace
}  // namespace supervisor
