#include "daemon/process/program_trust.h"

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

class ProgramTrust : public ::testing::Test {
 protected:
  ProgramTrust() {
    std::string path = (std::filesystem::temp_directory_path() / "program-XXXXXX").string();
    directory_ = mkdtemp(path.data());
    std::filesystem::create_directory(directory_ + "/open");
    chmod((directory_ + "/open").c_str(), 0777);
    for (const char* name : {"/own", "/open/hook"}) {
      std::ofstream(directory_ + name) << "#!/bin/sh\n";
      chmod((directory_ + name).c_str(), 0755);
    }
    request_.working_directory = directory_;
    request_.environment = {{"PATH", directory_ + ":" + directory_ + "/open"}};
  }
  ~ProgramTrust() override { std::filesystem::remove_all(directory_); }

  std::string Said(const std::string& command, FileTrust trust = FileTrust::kStrict) {
    request_.command = command;
    return std::string(CheckProgramTrust(request_, trust).message());
  }

  std::string directory_;
  SpawnRequest request_;
};

TEST_F(ProgramTrust, OneThatOthersCouldExchangeIsNamed) {
  const std::string hook = directory_ + "/open/hook";
  const std::string said =
      "cannot run " + hook + ": it lies below " + directory_ + "/open, which is writable by everyone";
  EXPECT_EQ(Said(directory_ + "/own"), "");
  EXPECT_THAT(Said(hook), HasSubstr(said));
  EXPECT_EQ(Said("own"), "");
  EXPECT_THAT(Said("hook"), HasSubstr(said)) << "found by PATH";
  EXPECT_THAT(Said("open/hook"), HasSubstr("/open/hook: it lies below ")) << "below the working directory";
  EXPECT_EQ(Said(hook, FileTrust::kAny), "");
}

TEST_F(ProgramTrust, WhatIsNotThereIsForExecveToTell) {
  EXPECT_EQ(Said(directory_ + "/none"), "");
  EXPECT_EQ(Said("none"), "");
  EXPECT_EQ(Said(directory_), "");
}

TEST_F(ProgramTrust, OneThatRunsAsAnotherUserMayBeHis) {
  request_.credentials =
      SpawnRequest::Credentials{.uid = geteuid() + 1, .gid = 0, .groups = {}, .user = {}, .home = {}, .shell = {}};
  EXPECT_EQ(Said(directory_ + "/open/hook"), "");
  request_.credentials->uid = geteuid();  // `group` alone was given
  EXPECT_NE(Said(directory_ + "/open/hook"), "");
}

TEST_F(ProgramTrust, FindsWhatExecvpWouldRun) {
  EXPECT_EQ(FindProgram("own", directory_), directory_ + "/own");
  EXPECT_EQ(FindProgram("hook", "/nowhere:" + directory_ + ":" + directory_ + "/open"), directory_ + "/open/hook");
  EXPECT_EQ(FindProgram("none", directory_), "none");
  EXPECT_EQ(FindProgram("a/b", directory_), "a/b");
}

}  // namespace
}  // namespace supervisor
