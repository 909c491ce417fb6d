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
  EXPECT_FALSE(first.cpu_percent.has_value()) << "there is nothing yet that it could be since";
  EXPECT_FALSE(first.read_bytes_per_second.has_value());
  EXPECT_GT(first.memory_mb, 0.1);
  EXPECT_GE(first.processes, 1);
  const uint64_t before = ReadProcStat(getpid())->cpu_ticks;
  volatile uint64_t work = 0;
  while (ReadProcStat(getpid())->cpu_ticks < before + 5) {
    for (int i = 0; i < 100'000; ++i) {
      work = work + static_cast<uint64_t>(i);
    }
  }
  EXPECT_GT(SampleOf(sampler, OwnSession(), absl::Seconds(2)).cpu_percent.value_or(0), 1);
}

TEST(UsageSampler, ARateOverAMomentIsNoneAndItsTicksCountLater) {
  UsageSampler sampler;
  SampleOf(sampler, OwnSession(), absl::Seconds(1));
  const uint64_t before = ReadProcStat(getpid())->cpu_ticks;
  volatile uint64_t work = 0;
  while (ReadProcStat(getpid())->cpu_ticks < before + 5) {
    for (int i = 0; i < 100'000; ++i) {
      work = work + static_cast<uint64_t>(i);
    }
  }
  const Usage soon = SampleOf(sampler, OwnSession(), absl::Milliseconds(1003));
  EXPECT_FALSE(soon.cpu_percent.has_value());
  EXPECT_FALSE(soon.written_bytes_per_second.has_value());
  EXPECT_GT(soon.memory_mb, 0.1);
  const Usage later = SampleOf(sampler, OwnSession(), absl::Milliseconds(1500));
  ASSERT_TRUE(later.cpu_percent.has_value());
  EXPECT_GE(*later.cpu_percent, 9) << "50 ms in 500 ms";
  EXPECT_FALSE(SampleOf(sampler, OwnSession(), absl::Milliseconds(1600)).cpu_percent.has_value()) << "since the last";
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
  EXPECT_TRUE(SampleOf(sampler, family.view(), absl::Seconds(2)).read_bytes_per_second.has_value());
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
