#include "daemon/process/usage.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

ProcessTreeView OwnSession() {
  return {.cgroup = "", .has_memory_controller = false, .sessions = {getsid(0), getpid()}, .reaped = {}, .mark = "-"};
}

Usage SampleOf(UsageSampler& sampler, const ProcessTreeView& tree, absl::Duration at) {
  EveryProcess everybody;
  return sampler.Sample(tree, everybody, at);
}

// A process in a session of its own, with a child; both hold a block of memory that they share.
class Family {
 public:
  explicit Family(size_t bytes) {
    int ready[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      setsid();
      volatile char* block = new char[bytes];
      for (size_t at = 0; at < bytes; at += 1024) {
        block[at] = 1;
      }
      static_cast<void>(fork());
      static_cast<void>(!write(ready[1], "x", 1));
      for (;;) {
        pause();
      }
    }
    close(ready[1]);
    char both[2];
    for (int got = 0; got < 2;) {
      const ssize_t more = read(ready[0], both, 1);
      EXPECT_GT(more, 0);
      got += more > 0 ? static_cast<int>(more) : 2;
    }
    close(ready[0]);
  }
  ~Family() {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  ProcessTreeView view() const {
    return {.cgroup = "", .has_memory_controller = false, .sessions = {pid_}, .reaped = {}, .mark = "-"};
  }

 private:
  pid_t pid_ = -1;
};

TEST(UsageSampler, MeasuresBetweenSamples) {
  UsageSampler sampler;
  const Usage first = SampleOf(sampler, OwnSession(), absl::Seconds(1));
  EXPECT_EQ(first.cpu_percent, 0);
  EXPECT_GT(first.memory_mb, 0.1);
  EXPECT_GE(first.processes, 1);
  const uint64_t before = ReadProcStat(getpid())->cpu_ticks;
  volatile uint64_t work = 0;
  while (ReadProcStat(getpid())->cpu_ticks < before + 5) {
    for (int i = 0; i < 100'000; ++i) {
      work = work + static_cast<uint64_t>(i);
    }
  }
  EXPECT_GT(SampleOf(sampler, OwnSession(), absl::Seconds(2)).cpu_percent, 1);
}

TEST(UsageSampler, OfTheWholeTreeAndMemoryThatIsSharedOnce) {
  constexpr size_t kBlock = 128 << 20;  // much beside what the program itself takes, sanitized too
  const Family family(kBlock);
  UsageSampler sampler;
  const Usage usage = SampleOf(sampler, family.view(), absl::Seconds(1));
  EXPECT_EQ(usage.processes, 2);
  EXPECT_GT(usage.memory_mb, 120);
  EXPECT_LT(usage.memory_mb, 230) << "resident memory of both, added up, would be 256";
  ASSERT_TRUE(usage.descriptors.has_value());
  EXPECT_GE(*usage.descriptors, 6);
  ASSERT_TRUE(usage.read_bytes_per_second.has_value());
}

TEST(UsageSampler, NothingOfWhatHasGone) {
  UsageSampler sampler;
  const ProcessTreeView gone{
      .cgroup = "", .has_memory_controller = false, .sessions = {0x3ffffff}, .reaped = {}, .mark = "-"};
  const Usage usage = SampleOf(sampler, gone, absl::Seconds(1));
  EXPECT_EQ(usage.processes, 0);
  EXPECT_EQ(usage.memory_mb, 0);
  EXPECT_FALSE(usage.descriptors.has_value());
}

}  // namespace
}  // namespace supervisor
