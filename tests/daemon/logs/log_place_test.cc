// What happens to the place where the log is: the file deleted, moved, truncated, replaced, planted by a stranger.

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/logs/log_pump_fixture.h"

namespace supervisor {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using LogPlaceTest = LogPumpTest;

constexpr absl::Duration kPatience = absl::Seconds(20);  // of a machine that is busy with other things

TEST_F(LogPlaceTest, ReopenGoesOnInTheNewFile) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  WriteAll(out.get(), "old\n");
  FlushAndWait(*pump_, "web");
  ASSERT_EQ(rename(options.file_path.c_str(), (options.file_path + ".moved").c_str()), 0);
  pump_->ReopenAll();
  FlushAndWait(*pump_, "web");  // which comes after the reopening
  WriteAll(out.get(), "new\n");
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(options.file_path + ".moved"), "old\n");
  EXPECT_EQ(ReadFile(options.file_path), "new\n");
  EXPECT_EQ(Remade(), 0) << "that was asked for";
}

TEST_F(LogPlaceTest, ATruncatedFileGoesOnAtItsStart) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  WriteAll(out.get(), std::string(10'000, 'x'));
  FlushAndWait(*pump_, "web");
  ASSERT_EQ(truncate(options.file_path.c_str(), 0), 0);
  WriteAll(out.get(), "new\n");
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(options.file_path), "new\n");
}

TEST_F(LogPlaceTest, ADeletedFileComesBackWhileTheServiceIsQuiet) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  ASSERT_EQ(unlink(options.file_path.c_str()), 0);
  EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience));
  WriteAll(out.get(), "here\n");
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(options.file_path), "here\n");
  EXPECT_EQ(Remade(), 1);
}

TEST_F(LogPlaceTest, NoByteGoesIntoADeletedFile) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  ASSERT_EQ(unlink(options.file_path.c_str()), 0);
  WriteAll(out.get(), "at once\n");
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(options.file_path), "at once\n");
  EXPECT_EQ(Remade(), 1);
  const std::lock_guard lock(mutex_);
  EXPECT_TRUE(troubles_.empty());
}

TEST_F(LogPlaceTest, ADeletedDirectoryComesBackUnderFullOutput) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  std::atomic<bool> stop{false};
  std::thread flooding([&] {
    while (!stop) {
      WriteAll(out.get(), NumberedLines(0, 1000));
    }
  });
  int at_once = 0;
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience));
    int attempts = 0;
    EXPECT_TRUE(Await([&] {
      ++attempts;  // more than one where this thread was held up between two of these
      unlink(options.file_path.c_str());
      unlink((dir_ / "log/.web.log.index").c_str());
      return rmdir((dir_ / "log").c_str()) == 0;
    }));
    at_once += attempts == 1 ? 1 : 0;
  }
  EXPECT_GT(at_once, 0) << "the file must not come back into a directory that is going";
  EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience));
  ASSERT_EQ(rename((dir_ / "log").c_str(), (dir_ / "log.old").c_str()), 0);
  EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience));
  stop = true;
  flooding.join();
}

TEST_F(LogPlaceTest, AQuietStreamsDirectoryComesBackToo) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  for (int i = 0; i < 3; ++i) {
    TempDir::RemoveTree(dir_ / "log");
    EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience)) << i;
  }
  ASSERT_EQ(rename((dir_ / "log").c_str(), (dir_ / "log.old").c_str()), 0);
  EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience));
  ASSERT_EQ(unlink(options.file_path.c_str()), 0);
  EXPECT_TRUE(Await([&] { return IsRegular(options.file_path); }, kPatience));
}

TEST_F(LogPlaceTest, ADirectoryInTheFilesPlaceIsNamedAndNoObstacleOnceItGoes) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  ASSERT_EQ(unlink(options.file_path.c_str()), 0);
  ASSERT_EQ(mkdir(options.file_path.c_str(), 0755), 0);
  EXPECT_TRUE(Await([&] { return !pump_->Stats("web").error.empty(); }, kPatience));
  EXPECT_THAT(pump_->Stats("web").error, AllOf(HasSubstr(options.file_path), HasSubstr("directory")));
  WriteAll(out.get(), "kept while we wait\n");
  ASSERT_EQ(rmdir(options.file_path.c_str()), 0);
  FlushAndWait(*pump_, "web");
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").error.empty(); }, kPatience));
  EXPECT_EQ(ReadFile(options.file_path), "kept while we wait\n");
  EXPECT_EQ(Remade(), 0) << "told as a trouble";
  const std::lock_guard lock(mutex_);
  ASSERT_EQ(troubles_.size(), 2u);
  EXPECT_EQ(troubles_[1], "");
}

TEST_F(LogPlaceTest, ALongTroubleDropsWholeLinesAndCountsThem) {
  const LogStreamOptions options = Options("web");
  const UniqueFd out = MustOpen("web", options);
  WriteAll(out.get(), "torn ");
  FlushAndWait(*pump_, "web");
  ASSERT_EQ(rename(options.file_path.c_str(), (dir_ / "kept").c_str()), 0);
  ASSERT_EQ(mkdir(options.file_path.c_str(), 0755), 0);
  EXPECT_TRUE(Await([&] { return !pump_->Stats("web").error.empty(); }, kPatience));
  const std::string lost(3 << 20, 'x');
  WriteAll(out.get(), lost);  // more than any pipe holds: returns, since the stream is emptied
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(pump_->Stats("web").dropped_bytes, lost.size());
  ASSERT_EQ(rename((dir_ / "kept").c_str(), (options.file_path + ".x").c_str()), 0);
  ASSERT_EQ(rmdir(options.file_path.c_str()), 0);
  ASSERT_EQ(rename((options.file_path + ".x").c_str(), options.file_path.c_str()), 0);
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").error.empty(); }, kPatience));
  WriteAll(out.get(), "rest of a lost line\nwhole\n");
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(options.file_path), "torn \nwhole\n");
  EXPECT_EQ(pump_->Stats("web").dropped_bytes, lost.size() + 19);
}

TEST_F(LogPlaceTest, APlantedSymbolicLinkIsRefusedAlsoWhileRotating) {
  LogStreamOptions options = Options("web");
  options.max_size_bytes = 10;
  options.max_files = 3;
  const std::string victim = dir_ / "victim";
  WriteFile(victim, "precious");
  ASSERT_EQ(mkdir((dir_ / "log").c_str(), 0755), 0);
  ASSERT_EQ(symlink(victim.c_str(), options.file_path.c_str()), 0);
  const auto refused = pump_->Open("web", options);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.status().message(), AllOf(HasSubstr(options.file_path), HasSubstr("symbolic link")));
  pump_->Close("web");
  ASSERT_EQ(unlink(options.file_path.c_str()), 0);

  const UniqueFd out = MustOpen("web", options);
  for (const char* name : {".1", ".2", ".3"}) {
    ASSERT_EQ(symlink(victim.c_str(), (options.file_path + name).c_str()), 0);
  }
  WriteAll(out.get(), NumberedLines(0, 20));
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(victim), "precious");
  EXPECT_TRUE(IsRegular(options.file_path + ".3"));
}

TEST_F(LogPlaceTest, OthersFilesInAWorldWritableDirectoryAreRefused) {
  const LogStreamOptions options = Options("web");
  ASSERT_EQ(mkdir((dir_ / "log").c_str(), 0755), 0);
  ASSERT_EQ(chmod((dir_ / "log").c_str(), 01777), 0);
  WriteFile(dir_ / "victim", "precious");
  ASSERT_EQ(link((dir_ / "victim").c_str(), options.file_path.c_str()), 0);
  EXPECT_THAT(pump_->Open("web", options).status().message(), HasSubstr("hard link"));
  ASSERT_EQ(unlink(options.file_path.c_str()), 0);
  if (getuid() == 0) {
    WriteFile(options.file_path, "");
    ASSERT_EQ(chown(options.file_path.c_str(), 12345, 12345), 0);
    EXPECT_THAT(pump_->Open("web", options).status().message(), HasSubstr("belongs to user 12345"));
    ASSERT_EQ(unlink(options.file_path.c_str()), 0);
  }
  const UniqueFd out = MustOpen("web", options);
  EXPECT_TRUE(out.valid());
}

TEST_F(LogPlaceTest, AnotherFileInTheFifosPlaceIsNamed) {
  const LogStreamOptions options = Options("web");
  WriteFile(options.fifo_path, "");
  EXPECT_THAT(pump_->Open("web", options).status().message(), HasSubstr(options.fifo_path));
  EXPECT_EQ(ReadFile(options.fifo_path), "");
}

TEST_F(LogPlaceTest, ARotationThatFailsLosesNothing) {
  LogStreamOptions options = Options("web");
  options.max_size_bytes = 100;
  // The longest name there is has no room for ".1" (NAME_MAX).
  options.file_path = options.file_path.substr(0, options.file_path.rfind('/') + 1) + std::string(251, 'w') + ".log";
  const UniqueFd out = MustOpen("web", options);
  const std::string lines = NumberedLines(0, 100);
  WriteAll(out.get(), lines);
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(ReadFile(options.file_path), lines);
  EXPECT_TRUE(Await([&] { return !pump_->Stats("web").error.empty(); }));
  EXPECT_THAT(pump_->Stats("web").error, AllOf(HasSubstr("cannot rotate"), HasSubstr("ENAMETOOLONG")));
  EXPECT_EQ(pump_->Stats("web").rotations, 0u);
}

TEST_F(LogPlaceTest, WhatStandsInTheWayOfARotationMovesUp) {
  LogStreamOptions options = Options("web");
  options.max_size_bytes = 100;
  options.max_files = 1000;
  const UniqueFd out = MustOpen("web", options);
  ASSERT_EQ(mkdir((options.file_path + ".1").c_str(), 0755), 0);
  WriteAll(out.get(), NumberedLines(0, 100));
  FlushAndWait(*pump_, "web");
  EXPECT_GT(pump_->Stats("web").rotations, 0u);
  EXPECT_EQ(pump_->Stats("web").error, "");
  EXPECT_TRUE(std::filesystem::is_regular_file(options.file_path + ".1"));
  size_t directories = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(options.file_path).parent_path())) {
    directories += entry.is_directory() && entry.path().string().starts_with(options.file_path + ".") ? 1 : 0;
  }
  EXPECT_EQ(directories, 1U);
}

}  // namespace
}  // namespace supervisor
