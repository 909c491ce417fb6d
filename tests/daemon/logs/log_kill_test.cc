// The capturing process is killed at any moment, and not a byte is lost, doubled or torn.

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <random>
#include <string>
#include <thread>

#include "daemon/logs/log_pump.h"
#include "daemon/logs/log_reader.h"
#include "gtest/gtest.h"
#include "tests/daemon/logs/log_test_util.h"

namespace supervisor {
namespace {

class LogKillTest : public testing::Test {
 protected:
  // Starts the helper and returns when it captures.
  pid_t StartPump(uint64_t max_size, const char* compress) {
    int ready[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    const UniqueFd read_end(ready[0]);
    UniqueFd write_end(ready[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
    std::string program = LOG_PUMP_HELPER;
    std::string size = std::to_string(max_size);
    std::string mode = compress;
    char* arguments[] = {program.data(), fifo_.data(), log_.data(), size.data(), mode.data(), nullptr};
    pid_t pid = -1;
    EXPECT_EQ(posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    write_end.Reset();
    char byte = 0;
    EXPECT_EQ(read(read_end.get(), &byte, 1), 1);
    return pid;
  }

  static void Kill(pid_t pid) {
    kill(pid, SIGKILL);
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }

  // A service writes at full speed while its pump is killed again and again; returns how many bytes it wrote.
  uint64_t RunWithKills(int kills, uint64_t max_size, const char* compress) {
    EXPECT_EQ(mkfifo(fifo_.c_str(), 0600), 0);
    const UniqueFd out(open(fifo_.c_str(), O_RDWR | O_CLOEXEC));
    std::atomic<bool> stop{false};
    uint64_t lines = 0;
    std::thread service([&] {
      constexpr uint64_t kLines = 500;
      while (!stop) {
        WriteAll(out.get(), NumberedLines(lines, kLines));
        lines += kLines;
      }
    });
    std::mt19937 random(7);
    for (int i = 0; i < kills; ++i) {
      const pid_t pid = StartPump(max_size, compress);
      for (const MonoTime moment = MonotonicNow() + absl::Microseconds(random() % 15'000); MonotonicNow() < moment;) {
        std::this_thread::yield();
      }
      Kill(pid);
    }
    LogPump pump(nullptr);
    LogStreamOptions options;
    options.fifo_path = fifo_;
    options.file_path = log_;
    options.max_size_bytes = max_size;
    options.max_files = 100'000;
    options.fifo_uid = getuid();
    options.fifo_gid = getgid();
    EXPECT_TRUE(pump.Open("stream", options).ok());
    stop = true;
    service.join();
    FlushAndWait(pump, "stream");
    return lines;
  }

  // Compared piece by piece: the log may be large.
  void ExpectLines(uint64_t lines) {
    LogReader reader(log_);
    ASSERT_TRUE(reader.SeekToStart().ok());
    std::string rest;
    uint64_t next = 0;
    for (;;) {
      const absl::StatusOr<std::string> block = reader.Read(1 << 20);
      ASSERT_TRUE(block.ok()) << block.status();
      if (block->empty()) {
        break;
      }
      rest += *block;
      const uint64_t whole = static_cast<uint64_t>(std::count(rest.begin(), rest.end(), '\n'));
      const std::string expected = NumberedLines(next, whole);
      ASSERT_TRUE(rest.starts_with(expected)) << "after line " << next;
      rest.erase(0, expected.size());
      next += whole;
    }
    EXPECT_EQ(next, lines);
    EXPECT_EQ(rest, "");
    EXPECT_EQ(reader.missed_bytes(), 0u);
  }

  TempDir dir_;
  std::string fifo_ = dir_ / "fifo";
  std::string log_ = dir_ / "web.log";
};

TEST_F(LogKillTest, NotAByteIsLostDoubledOrTorn) { ExpectLines(RunWithKills(50, 0, "")); }

TEST_F(LogKillTest, NorWhileRotating) { ExpectLines(RunWithKills(50, 200'000, "")); }

TEST_F(LogKillTest, NorWhileCompressing) { ExpectLines(RunWithKills(30, 1'000'000, "compress")); }

}  // namespace
}  // namespace supervisor
