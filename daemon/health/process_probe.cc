#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/health/probe.h"
#include "daemon/health/text.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// A tracer stops a process for moments, and disks make it wait for moments: only what lasts is a failure.
constexpr absl::Duration kStoppedTooLong = absl::Milliseconds(300);
constexpr absl::Duration kBlockedTooLong = absl::Seconds(3);
constexpr absl::Duration kLookEvery = absl::Milliseconds(100);
constexpr absl::Duration kCpuWindow = absl::Seconds(1);
constexpr double kBytesAMegabyte = 1024.0 * 1024.0;

// What keeps a process from working, by its state in /proc. Empty: nothing.
const char* Trouble(char state) {
  switch (state) {
    case 'T':
      return "is stopped (SIGSTOP or SIGTSTP)";
    case 't':
      return "is stopped by a debugger";
    case 'D':
      return "is blocked in the kernel (uninterruptible sleep)";
    default:
      return "";
  }
}

// The main process is there and works, and its tree keeps within the limits.
class ProcessProbe final : public Probe {
 public:
  ProcessProbe(ProbeTools& tools, ProbeRequest request)
      : request_(std::move(request)), timer_(tools.loop.NewTimer([this] { Look(); })) {}

  void Begin() override {
    if (request_.target.pid <= 0) {
      Fail("the process is not running");
      return;
    }
    began_ = MonotonicNow();
    if (request_.config.max_cpu_percent > 0) {
      for (const ProcStat& process : ReadProcessTree(request_.target.pid)) {
        ticks_before_[{process.pid, process.start_ticks}] = process.cpu_ticks;
      }
    }
    Look();
  }

  void DeadlinePassed() override {
    if (trouble_state_ != 0) {
      Fail(fmt::format("process {} {}", request_.target.pid, Trouble(trouble_state_)));
    } else {
      request_.finish(
          {.message = fmt::format("timed out after {}", DurationText(request_.config.timeout)), .timed_out = true});
    }
  }

 private:
  void Look() {
    const pid_t pid = request_.target.pid;
    const std::optional<ProcStat> now = ReadProcStat(pid);
    if (!now.has_value() || (start_ticks_.has_value() && now->start_ticks != *start_ticks_)) {
      Fail(fmt::format("process {} is gone", pid));
      return;
    }
    start_ticks_ = now->start_ticks;
    if (now->is_dead()) {
      Fail(fmt::format("process {} is a zombie: it has ended and was not reaped", pid));
      return;
    }
    if (*Trouble(now->state) != '\0') {
      OnTrouble(now->state);
      return;
    }
    trouble_state_ = 0;
    CheckLimits();
  }

  void OnTrouble(char state) {
    const MonoTime now = MonotonicNow();
    if (trouble_state_ != state) {
      trouble_state_ = state;
      trouble_since_ = now;
    }
    const absl::Duration patience = state == 'D' ? std::min(kBlockedTooLong, 0.8 * request_.config.timeout)
                                                 : std::min(kStoppedTooLong, 0.5 * request_.config.timeout);
    if (now - trouble_since_ >= patience) {
      Fail(fmt::format("process {} {}", request_.target.pid, Trouble(state)));
      return;
    }
    timer_->ArmAfter(std::min(kLookEvery, trouble_since_ + patience - now));
  }

  void CheckLimits() {
    const HealthCheckConfig& config = request_.config;
    if (config.max_memory_mb <= 0 && config.max_cpu_percent <= 0) {
      request_.finish({.success = true, .message = fmt::format("process {} is alive", request_.target.pid)});
      return;
    }
    const MonoTime window_end = began_ + std::min(kCpuWindow, 0.5 * config.timeout);
    if (const MonoTime now = MonotonicNow(); config.max_cpu_percent > 0 && now < window_end) {
      timer_->ArmAfter(window_end - now);
      return;
    }
    Judge(ReadProcessTree(request_.target.pid));
  }

  void Judge(const std::vector<ProcStat>& tree) {
    const HealthCheckConfig& config = request_.config;
    const double memory_mb = MemoryOf(tree);
    const std::string who = tree.size() == 1 ? "1 process" : fmt::format("{} processes", tree.size());
    if (config.max_memory_mb > 0 && memory_mb > config.max_memory_mb) {
      Fail(fmt::format("memory {:.1f} MB (at most {:g} MB; {})", memory_mb, config.max_memory_mb, who));
      return;
    }
    std::string used = fmt::format("{:.1f} MB", memory_mb);
    if (config.max_cpu_percent > 0) {
      const double percent = CpuOf(tree);
      if (percent > config.max_cpu_percent) {
        Fail(fmt::format("CPU {:.1f} % (at most {:g} %; {})", percent, config.max_cpu_percent, who));
        return;
      }
      used += fmt::format(", CPU {:.1f} %", percent);
    }
    request_.finish(
        {.success = true, .message = fmt::format("process {} is alive ({}, {})", request_.target.pid, used, who)});
  }

  static double MemoryOf(const std::vector<ProcStat>& tree) {
    uint64_t pages = 0;
    for (const ProcStat& process : tree) {
      pages += process.rss_pages;
    }
    return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / kBytesAMegabyte;
  }

  // Of one core, since Begin. A process that is new since then counts from its start.
  double CpuOf(const std::vector<ProcStat>& tree) const {
    uint64_t ticks = 0;
    for (const ProcStat& process : tree) {
      const auto before = ticks_before_.find({process.pid, process.start_ticks});
      ticks += process.cpu_ticks - (before == ticks_before_.end() ? 0 : before->second);
    }
    const double seconds = absl::ToDoubleSeconds(MonotonicNow() - began_);
    return 100.0 * static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)) / seconds;
  }

  void Fail(std::string message) { request_.finish({.message = std::move(message)}); }

  ProbeRequest request_;
  std::unique_ptr<Loop::Timer> timer_;
  MonoTime began_;
  std::optional<uint64_t> start_ticks_;
  char trouble_state_ = 0;
  MonoTime trouble_since_;
  std::map<std::pair<pid_t, uint64_t>, uint64_t> ticks_before_;
};

}  // namespace

std::unique_ptr<Probe> NewProcessProbe(ProbeTools& tools, ProbeRequest request) {
  return std::make_unique<ProcessProbe>(tools, std::move(request));
}

}  // namespace supervisor
