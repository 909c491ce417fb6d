#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

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
constexpr absl::Duration kShortestWindow = absl::Milliseconds(1);

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

// The main process is there and works, and its tree keeps within the limits: two samples where the processor has one,
// else one, each measured by a helper thread.
//
//   Begin -> Look [-> trouble: Look again] -> CheckLimits [-> Measure -> OnUsage -> wait -> Look] -> Measure -> Judge
class ProcessProbe final : public Probe {
 public:
  ProcessProbe(ProbeTools& tools, ProbeRequest request)
      : tools_(tools),
        request_(std::move(request)),
        timer_(tools.loop.NewTimer([this] { Look(); })),
        alive_(std::make_shared<bool>(true)) {}

  void Begin() override {
    if (request_.target.pid <= 0) {
      Fail("the process is not running");
      return;
    }
    deadline_ = MonotonicNow() + request_.config.timeout;
    Look();
  }

  void DeadlinePassed() override {
    if (trouble_state_ != 0) {
      Fail(fmt::format("process {} {}", request_.target.pid, Trouble(trouble_state_)));
    } else if (awaits_exec_) {
      Fail(fmt::format(
          "process {} has not become its program yet: its command is on a file system that does not answer?",
          request_.target.pid));
    } else {
      Finish({.message =
                  fmt::format("timed out after {} (measuring its processes)", DurationText(request_.config.timeout)),
              .timed_out = true});
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

  bool limits_cpu() const { return request_.config.max_cpu_percent > 0; }

  void CheckLimits() {
    if (request_.config.max_memory_mb <= 0 && !limits_cpu()) {
      Finish({.success = true, .message = fmt::format("process {} is alive", request_.target.pid)});
      return;
    }
    if (const MonoTime now = MonotonicNow(); window_end_ != kNoDeadline && now < window_end_) {
      timer_->ArmAfter(window_end_ - now);
      return;
    }
    if (sampler_ == nullptr) {
      sampler_ = tools_.looks->SamplerFor(request_.target.pid, kShortestWindow);
    }
    if (sampler_ == nullptr) {
      timer_->ArmAfter(kLookEvery);
      return;
    }
    Measure();
  }

  void Measure() {
    const auto measure = [this, sampler = sampler_, tree = request_.target.tree, pid = request_.target.pid,
                          looks = tools_.looks, mailbox = tools_.mailbox,
                          wanted = std::weak_ptr<bool>(alive_)]() mutable {
      const Usage usage = looks->Measure(*sampler, tree, pid);
      sampler.reset();  // the next check may come as soon as this one has its answer
      mailbox->Post([this, wanted, usage] {
        if (!wanted.expired()) {
          OnUsage(usage);
        }
      });
    };
    if (!tools_.starters.Run(alive_, measure)) {
      Fail("the check did not run: no thread for it can be made");
    }
  }

  void OnUsage(const Usage& usage) {
    awaits_exec_ = usage.processes == 0 && usage.awaiting_exec > 0;
    if (awaits_exec_) {
      window_end_ = kNoDeadline;
      timer_->ArmAfter(kLookEvery);
    } else if (limits_cpu() && window_end_ == kNoDeadline) {
      const MonoTime now = MonotonicNow();
      window_end_ = now + std::max(kShortestWindow, std::min(kCpuWindow, 0.5 * (deadline_ - now)));
      Look();
    } else {
      Judge(usage);
    }
  }

  void Judge(const Usage& usage) {
    const HealthCheckConfig& config = request_.config;
    if (usage.processes == 0) {
      Fail(fmt::format("process {} is gone", request_.target.pid));
      return;
    }
    const std::string who = usage.processes == 1 ? "1 process" : fmt::format("{} processes", usage.processes);
    if (config.max_memory_mb > 0 && usage.memory_mb > config.max_memory_mb) {
      Fail(fmt::format("memory {:.1f} MB{} (at most {:g} MB; {})", usage.memory_mb,
                       usage.has_resident_memory ? " resident" : "", config.max_memory_mb, who));
      return;
    }
    std::string used = fmt::format("{:.1f} MB{}", usage.memory_mb, usage.has_resident_memory ? " resident" : "");
    if (limits_cpu()) {
      const double percent = usage.cpu_percent.value_or(0);
      if (percent > config.max_cpu_percent) {
        Fail(fmt::format("CPU {:.1f} % (at most {:g} %; {})", percent, config.max_cpu_percent, who));
        return;
      }
      used += fmt::format(", CPU {:.1f} %", percent);
    }
    Finish({.success = true, .message = fmt::format("process {} is alive ({}, {})", request_.target.pid, used, who)});
  }

  void Fail(std::string message) { Finish({.message = std::move(message)}); }

  void Finish(ProbeOutcome outcome) {
    sampler_.reset();  // for the next check
    request_.finish(std::move(outcome));
  }

  ProbeTools& tools_;
  ProbeRequest request_;
  std::unique_ptr<Loop::Timer> timer_;
  std::shared_ptr<bool> alive_;
  std::shared_ptr<UsageSampler> sampler_;  // null: none has been measured yet
  MonoTime deadline_;
  MonoTime window_end_ = kNoDeadline;  // of the processor's; kNoDeadline: it has not begun
  std::optional<uint64_t> start_ticks_;
  char trouble_state_ = 0;
  MonoTime trouble_since_;
  bool awaits_exec_ = false;  // at the last look there was no program yet that could be measured
};

}  // namespace

std::unique_ptr<Probe> NewProcessProbe(ProbeTools& tools, ProbeRequest request) {
  return std::make_unique<ProcessProbe>(tools, std::move(request));
}

}  // namespace supervisor
