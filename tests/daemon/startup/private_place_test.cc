#include "daemon/startup/private_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace supervisor {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;

class PrivatePlace : public ::testing::Test {
 protected:
  PrivatePlace() {
    std::string path = (std::filesystem::temp_directory_path() / "place-XXXXXX").string();
    directory_ = mkdtemp(path.data());
  }
  ~PrivatePlace() override { std::filesystem::remove_all(directory_); }

  std::string At(const std::string& name) const { return directory_ + "/" + name; }
  std::string MakeOther(const std::string& name, mode_t mode, uid_t owner) const {
    mkdir(At(name).c_str(), mode);
    chmod(At(name).c_str(), mode);
    EXPECT_EQ(chown(At(name).c_str(), owner, owner), 0);
    return At(name);
  }

  std::string directory_;
};

std::string Said(const absl::Status& status) { return std::string(status.message()); }

TEST_F(PrivatePlace, IsMadeWithItsMode) {
  ASSERT_TRUE(MakeRuntimeDirectory(At("a/run"), FileTrust::kStrict).ok());
  ASSERT_TRUE(MakePrivateDirectory(At("a/run/s.state"), 0711).ok());
  struct stat info {};
  ASSERT_EQ(stat(At("a/run/s.state").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0711U);
  EXPECT_TRUE(MakePrivateDirectory(At("a/run/s.state"), 0700).ok()) << "it may be there already";
}

TEST_F(PrivatePlace, OneThatOthersMayWriteIsRefused) {
  const std::string open = MakeOther("open", 0777, geteuid());
  EXPECT_THAT(Said(MakePrivateDirectory(open, 0711)), HasSubstr(open + ": others may write in it (mode 0777)"));
  EXPECT_THAT(Said(MakeRuntimeDirectory(open, FileTrust::kStrict)),
              HasSubstr("runtime directory " + open + ": is writable by everyone (mode 0777)"));
  EXPECT_THAT(Said(MakeRuntimeDirectory(open, FileTrust::kAny)), HasSubstr("is writable by everyone (mode 0777)"));
  EXPECT_THAT(Said(MakeRuntimeDirectory(open + "/below", FileTrust::kStrict)), HasSubstr("lies below " + open));
  EXPECT_TRUE(MakeRuntimeDirectory(open + "/below", FileTrust::kAny).ok());
  chmod(open.c_str(), 01777);
  EXPECT_TRUE(MakeRuntimeDirectory(open, FileTrust::kStrict).ok()) << "as /tmp";
}

TEST_F(PrivatePlace, WhatIsNoDirectoryIsRefused) {
  std::ofstream(At("file")) << "x";
  std::filesystem::create_directory(At("real"));
  std::filesystem::create_directory_symlink(At("real"), At("link"));
  EXPECT_THAT(Said(MakePrivateDirectory(At("file"), 0700)), HasSubstr("not a directory of ours"));
  EXPECT_THAT(Said(MakePrivateDirectory(At("link"), 0700)), HasSubstr("not a directory of ours"));
}

class PrivatePlaceOfRoot : public PrivatePlace {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "only root can make what belongs to others";
    }
    chmod(directory_.c_str(), 01777);
  }
};

TEST_F(PrivatePlaceOfRoot, AnothersDirectoryIsRefused) {
  const std::string his = MakeOther("his", 0755, kNobody);
  EXPECT_THAT(Said(MakeRuntimeDirectory(his, FileTrust::kStrict)), HasSubstr("belongs to uid 65534"));
  EXPECT_THAT(Said(MakeRuntimeDirectory(his, FileTrust::kAny)), HasSubstr("belongs to uid 65534"));
  EXPECT_THAT(Said(MakePrivateDirectory(his, 0700)),
              HasSubstr("runtime directory " + his + ": not a directory of ours (uid 65534): somebody put it there"));
}

TEST_F(PrivatePlaceOfRoot, ThePidDirectoryMayBeTheServicesUsers) {
  Config config;
  config.global.pid_directory = MakeOther("pids", 0755, kNobody);
  ServiceConfig web;
  web.user = "65534";
  config.services["web"] = web;
  EXPECT_TRUE(MakePidDirectory(config, FileTrust::kStrict).ok());
  config.services["db"] = ServiceConfig();  // of root: its pid file must not be his
  EXPECT_THAT(Said(MakePidDirectory(config, FileTrust::kStrict)),
              HasSubstr("global.pid_directory " + config.global.pid_directory + ": belongs to uid 65534"));
  EXPECT_TRUE(MakePidDirectory(config, FileTrust::kAny).ok());
  config.global.pid_directory = At("none/pids");
  EXPECT_TRUE(MakePidDirectory(config, FileTrust::kStrict).ok());
  EXPECT_TRUE(std::filesystem::is_directory(config.global.pid_directory));
}

}  // namespace
}  // namespace supervisor
