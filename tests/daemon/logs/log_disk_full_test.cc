// A full disk: the service never blocks for good, what is lost is counted, and capturing goes on by itself. The whole
// test program runs in a mount namespace of its own, with a small tmpfs; it skips where that is not permitted.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "daemon/logs/log_pump.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/logs/log_test_util.h"

namespace supervisor {
namespace {

using testing::HasSubstr;

class LogDiskFullTest : public testing::Test {
 protected:
  void SetUp() override {
    static const bool own_namespace =
        unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    if (own_namespace) {
      mounted_ = mount("tmpfs", disk().c_str(), "tmpfs", 0, "size=2m") == 0;
    }
    if (!mounted_) {
      GTEST_SKIP() << "mounting is not permitted here: " << strerror(errno);  // NOLINT(concurrency-mt-unsafe)
    }
    // Only now: its thread must see the new mount.
    pump_ = std::make_unique<LogPump>(
        [this](const std::string&, const std::string&, const LogStreamStats&) { ++troubles_; });
    options_.fifo_path = dir_ / "web.fifo";
    options_.file_path = disk() + "/web.log";
    options_.max_size_bytes = 0;
    options_.fifo_uid = getuid();
    options_.fifo_gid = getgid();
  }
  void TearDown() override {
    pump_.reset();
    if (mounted_) {
      EXPECT_EQ(umount2(disk().c_str(), MNT_DETACH), 0);
    }
  }

  std::string disk() const { return disk_.path(); }
  std::string filler() const { return disk() + "/filler"; }

  void FillDisk() const {
    const UniqueFd fd(open(filler().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    const std::string page(4096, 'f');
    while (write(fd.get(), page.data(), page.size()) > 0) {
    }
  }

  // Writes lines as a service does, and returns the longest time that one write(2) took.
  absl::Duration WriteLines(int fd, uint64_t count) {
    absl::Duration longest = absl::ZeroDuration();
    for (uint64_t i = 0; i < count; ++i) {
      const MonoTime start = MonotonicNow();
      WriteAll(fd, NumberedLines(written_lines_++, 1));
      longest = std::max(longest, MonotonicNow() - start);
    }
    return longest;
  }

  // Every line is whole, but for at most `torn` that were cut, and none comes twice.
  void ExpectLinesInOrder(int torn) {
    const std::string log = ReadFile(options_.file_path);
    int64_t last = -1;
    for (size_t at = 0; at < log.size();) {
      const size_t end = std::min(log.find('\n', at), log.size());
      const std::string line = log.substr(at, end - at);
      at = end + 1;
      const int64_t number = line.starts_with("line ") ? atoll(line.c_str() + 5) : -1;  // NOLINT(cert-err34-c)
      if (number < 0 || line + "\n" != NumberedLines(static_cast<uint64_t>(number), 1)) {
        --torn;
        continue;
      }
      EXPECT_GT(number, last);
      last = number;
    }
    EXPECT_GE(torn, 0);
    EXPECT_EQ(last, static_cast<int64_t>(written_lines_) - 1) << "the last line is there";
  }

  TempDir disk_;
  TempDir dir_;
  bool mounted_ = false;
  LogStreamOptions options_;
  std::atomic<int> troubles_{0};
  uint64_t written_lines_ = 0;
  std::unique_ptr<LogPump> pump_;
};

TEST_F(LogDiskFullTest, TheServiceGoesOnAndLoggingResumes) {
  const auto out = pump_->Open("web", options_);
  ASSERT_TRUE(out.ok()) << out.status();
  WriteLines(out->get(), 100);
  FlushAndWait(*pump_, "web");
  FillDisk();
  EXPECT_LT(WriteLines(out->get(), 200'000), absl::Seconds(10));
  FlushAndWait(*pump_, "web");
  const LogStreamStats full = pump_->Stats("web");
  EXPECT_GT(full.dropped_bytes, 0u);
  EXPECT_THAT(full.error, HasSubstr("No space left on device (ENOSPC)"));
  EXPECT_THAT(full.error, HasSubstr(options_.file_path));
  EXPECT_EQ(troubles_, 1);

  ASSERT_EQ(unlink(filler().c_str()), 0);
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").error.empty(); })) << "although nothing is written";
  WriteLines(out->get(), 100);
  FlushAndWait(*pump_, "web");
  const LogStreamStats after = pump_->Stats("web");
  EXPECT_EQ(after.captured_bytes + after.dropped_bytes, NumberedLines(0, written_lines_).size());
  EXPECT_EQ(ReadFile(options_.file_path).size(), after.captured_bytes);
  EXPECT_EQ(troubles_, 2);
  ExpectLinesInOrder(1);
}

TEST_F(LogDiskFullTest, AShortTroubleLosesNothing) {
  const auto out = pump_->Open("web", options_);
  ASSERT_TRUE(out.ok()) << out.status();
  FillDisk();
  WriteLines(out->get(), 1000);
  EXPECT_TRUE(Await([&] { return !pump_->Stats("web").error.empty(); }));
  ASSERT_EQ(unlink(filler().c_str()), 0);
  FlushAndWait(*pump_, "web");
  EXPECT_TRUE(ReadFile(options_.file_path) == NumberedLines(0, 1000));
  EXPECT_EQ(pump_->Stats("web").dropped_bytes, 0u);
}

TEST_F(LogDiskFullTest, SpaceThatComesWhileTheServiceFloods) {
  const auto out = pump_->Open("web", options_);
  ASSERT_TRUE(out.ok()) << out.status();
  FillDisk();
  std::atomic<bool> stop{false};
  std::thread flooding([&] {
    while (!stop) {
      WriteLines(out->get(), 20);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // so that the small disk is not full at once again
    }
  });
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").dropped_bytes > 0; }));
  ASSERT_EQ(unlink(filler().c_str()), 0);
  const uint64_t captured = pump_->Stats("web").captured_bytes;
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").captured_bytes > captured; }));
  stop = true;
  flooding.join();
  FlushAndWait(*pump_, "web");
  ExpectLinesInOrder(1);
}

TEST_F(LogDiskFullTest, TimestampedLogsToo) {
  options_.timestamps = true;
  const auto out = pump_->Open("web", options_);
  ASSERT_TRUE(out.ok()) << out.status();
  FillDisk();
  EXPECT_LT(WriteLines(out->get(), 100'000), absl::Seconds(10));
  FlushAndWait(*pump_, "web");
  ASSERT_EQ(unlink(filler().c_str()), 0);
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").error.empty(); }));
  WriteAll(out->get(), "the end\nthe very end\n");
  FlushAndWait(*pump_, "web");
  EXPECT_TRUE(ReadFile(options_.file_path).ends_with(" the very end\n"));
}

TEST_F(LogDiskFullTest, AReadOnlyDiskIsNamedAndNoObstacleOnceItIsWritable) {
  ASSERT_EQ(mount(nullptr, disk().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const auto refused = pump_->Open("web", options_);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(), "log file " + options_.file_path + ": Read-only file system (EROFS)");
  // An adopted service's FIFO is emptied all the same.
  const UniqueFd out(open(options_.fifo_path.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_LT(WriteLines(out.get(), 100'000), absl::Seconds(10));
  ASSERT_EQ(mount(nullptr, disk().c_str(), nullptr, MS_REMOUNT, nullptr), 0);
  EXPECT_TRUE(Await([&] { return IsRegular(options_.file_path); }));
  EXPECT_TRUE(Await([&] { return pump_->Stats("web").error.empty(); }));
  WriteLines(out.get(), 10);
  FlushAndWait(*pump_, "web");
  ExpectLinesInOrder(1);
}

TEST_F(LogDiskFullTest, ALimitOnTheFilesSizeIsNoMore) {
  const auto out = pump_->Open("web", options_);
  ASSERT_TRUE(out.ok()) << out.status();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limited = before;
  limited.rlim_cur = 100'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  EXPECT_LT(WriteLines(out->get(), 100'000), absl::Seconds(10));
  FlushAndWait(*pump_, "web");
  EXPECT_THAT(pump_->Stats("web").error, HasSubstr("EFBIG"));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(Await([&] {
    WriteLines(out->get(), 10);
    return pump_->Stats("web").error.empty();
  }));
  WriteLines(out->get(), 10);
  FlushAndWait(*pump_, "web");
  ExpectLinesInOrder(1);
}

TEST_F(LogDiskFullTest, RotationGoesOnWhenItFreesSpace) {
  options_.max_size_bytes = 500'000;
  options_.max_files = 2;
  const auto out = pump_->Open("web", options_);
  ASSERT_TRUE(out.ok()) << out.status();
  WriteLines(out->get(), 200'000);  // five megabytes through a disk of two
  FlushAndWait(*pump_, "web");
  EXPECT_EQ(pump_->Stats("web").dropped_bytes, 0u);
  const std::string log = ReadWholeLog(options_.file_path);
  const std::string all = NumberedLines(0, written_lines_);
  EXPECT_TRUE(all.ends_with(log));
  EXPECT_GT(log.size(), 1'000'000u);
}

}  // namespace
}  // namespace supervisor
