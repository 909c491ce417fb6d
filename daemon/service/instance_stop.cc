#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/diag_log.h"
#include "common/fail_point.h"
#include "daemon/service/instance.h"

// How an instance is stopped, and the commands around its life.

namespace supervisor {
namespace {

constexpr absl::Duration kSlowestSweep = absl::Milliseconds(50);
constexpr absl::Duration kStuckSweep = absl::Seconds(1);  // of what cannot be stopped: each look reads all of /proc
// The file system of its program or its working directory hangs.
constexpr absl::Duration kHungExec = absl::Seconds(1);

}  // namespace

void Instance::operator()(const TerminateTree& action) {
  if (spawning_) {
    spawning_ = false;  // its identity or its logs were still being prepared: there is nothing to stop
    Enqueue(StartFailed{"stopped before it was started"});
    return;
  }
  FailPoint(FailPointId::kStopDecided);
  if (action.hung && child_ != nullptr) {
    AskMainProcess(SIGABRT);
    return;
  }
  if (MonotonicNow() - awaits_exec_since() > kHungExec) {
    // Until its exec it blocks all others, and there is nobody to be asked.
    AskMainProcess(SIGKILL);
  } else {
    AskToGo();
  }
  FailPoint(FailPointId::kStopSignalled);
  if (child_ == nullptr) {
    CheckTreeEmpty();
  }
}

void Instance::operator()(const RunStopCommand& action) {
  if (pid() == 0) {
    return;  // its end is known and about to be told
  }
  FailPoint(FailPointId::kStopDecided);
  if (identity_) {
    StartStopCommand(action.limit);
    return;
  }
  // An earlier daemon has started it. Never as the daemon's own user, which may be root.
  WithIdentity([this, limit = action.limit](absl::StatusOr<ServiceIdentity> identity) {
    if (machine_.phase != Phase::kTerminating || machine_.ask_deadline == kNoDeadline || pid() == 0) {
      return;
    }
    if (identity.ok()) {
      TakeIdentity(*std::move(identity));
      StartStopCommand(limit);
    } else {
      Enqueue(StopCommandEnded{false, fmt::format("cannot be run: {}", std::string(identity.status().message()))});
    }
  });
}

void Instance::StartStopCommand(absl::Duration limit) {
  const CommandConfig& run = config_.graceful_shutdown.run;
  if (const std::string* why = identity_->Distrusts(run.command)) {
    Enqueue(StopCommandEnded{false, fmt::format("not run: {}", *why)});
    return;
  }
  SpawnRequest request = BaseRequest(run);
  SetVariable(request.environment, "MAINPID", fmt::format("{}", pid()));
  stop_command_.reset();
  RunMark mark = RunMark::Random();
  std::shared_ptr<void> birth = BeginBirth(id_ + "#stop", mark, request);
  stop_command_ =
      std::make_unique<HelperCommand>(context_.loop, std::move(request), MakeCgroup(id_ + "#stop"), std::move(mark),
                                      limit, [this](const HelperCommand::Result& result) {
                                        context_.loop.DestroyLater(std::move(stop_command_));
                                        Enqueue(StopCommandEnded{result.success, secrets_.Hide(result.message)});
                                      });
  stop_command_->Hold(std::move(birth));
  FailPoint(FailPointId::kStopSignalled);
}

void Instance::AskMainProcess(int signal) {
  const absl::Status sent = child_->Signal(signal);
  static_cast<void>(child_->Signal(SIGCONT));  // a stopped process would not see the signal
  if (!sent.ok() && !absl::IsNotFound(sent)) {
    LogError("the service cannot be asked to stop", {{"service", id_}, {"error", std::string(sent.message())}});
    Enqueue(SignalRefused{std::string(sent.message())});
  }
}

// To all but the main process.
void Instance::AskTree(int signal) {
  const std::vector<SignalRefusal> refusals = tree_.SignalAll(signal, pid());
  tree_.SignalAll(SIGCONT, pid());
  if (!refusals.empty()) {
    LogWarning("a process of the service cannot be asked to stop",
               {{"service", id_}, {"error", DescribeRefusals(signal, refusals)}});
  }
}

// The main process first: it may want to end its workers in its own way. What it leaves behind is asked when it is
// gone, unless all were asked together: a second signal means "at once" to some.
void Instance::AskToGo() {
  const GracefulShutdownConfig& shutdown = config_.graceful_shutdown;
  if (child_ != nullptr) {
    AskMainProcess(shutdown.signal);
    tree_asked_ = shutdown.signal_to == SignalTo::kTree;
    if (tree_asked_) {
      AskTree(shutdown.signal);
    }
  } else if (shutdown.kill_mode == KillMode::kTree && !std::exchange(tree_asked_, false)) {
    AskTree(shutdown.signal);
  }
}

void Instance::operator()(const KillTree& action) {
  const bool whole_tree = config_.graceful_shutdown.kill_mode == KillMode::kTree;
  std::vector<std::string> refused;
  if (child_ != nullptr) {
    if (const absl::Status killed = child_->Signal(SIGKILL); !killed.ok() && !absl::IsNotFound(killed)) {
      refused.emplace_back(killed.message());
    }
  }
  if (whole_tree) {
    std::vector<SignalRefusal> refusals = tree_.Kill();
    std::erase_if(refusals, [main = pid()](const SignalRefusal& refusal) { return refusal.pid == main; });
    if (!refusals.empty()) {
      refused.push_back(DescribeRefusals(SIGKILL, refusals));
    }
  }
  FailPoint(FailPointId::kTreeKilled);
  // A cgroup is killed whosever its processes are: that they refuse a signal says nothing yet.
  if (action.again || (!refused.empty() && tree_.cgroup() == nullptr)) {
    TellWhatIsLeft(refused);
  }
  if (child_ == nullptr) {
    CheckTreeEmpty();
  }
}

void Instance::TellWhatIsLeft(const std::vector<std::string>& refused) {
  std::string message = fmt::format("{}", fmt::join(refused, "; "));
  if (refused.empty()) {
    const bool whole_tree = config_.graceful_shutdown.kill_mode == KillMode::kTree;
    const std::vector<pid_t> left = whole_tree ? tree_.Pids() : std::vector<pid_t>{pid()};
    if (left.empty() || left.front() == 0) {
      return;
    }
    message = fmt::format("after SIGKILL {}", DescribeLeft(left));
  }
  if (machine_.stuck.find(message) == std::string::npos) {  // else it is known by now
    LogError("what is left of the service does not go", {{"service", id_}, {"error", message}});
  }
  Enqueue(StillThere{std::move(message), !refused.empty()});
}

void Instance::CheckTreeEmpty() {
  if (child_ != nullptr || !machine_.last_exit) {
    return;
  }
  const bool killing = machine_.phase == Phase::kKilling;
  if (config_.graceful_shutdown.kill_mode == KillMode::kProcess || tree_.Empty()) {
    Enqueue(TreeEmptied{});
    return;
  }
  if (killing) {
    tree_.Kill();  // again: something may have been forked while we looked
  }
  sweep_delay_ = std::clamp(sweep_delay_ * 2, kShortestSweep, machine_.stuck.empty() ? kSlowestSweep : kStuckSweep);
  sweep_timer_->ArmAfter(sweep_delay_);
}

// ----------------------------------------------------------------------------------------------------------- hooks

void Instance::operator()(const RunHook& action) {
  const HookKind kind = action.kind;
  const auto run = [this, kind](const absl::StatusOr<ServiceIdentity>& identity) {
    if (!identity.ok()) {
      Enqueue(HookEnded{kind, false, std::string(identity.status().message())});
      return;
    }
    TakeIdentity(*identity);
    StartHook(kind);
  };
  // Before the start names and files are looked at anew, which may take long. After it what it was started with holds:
  // no stop waits for a directory service that hangs.
  if (identity_ && kind != HookKind::kPreStart) {
    StartHook(kind);
  } else if (kind == HookKind::kPostStart) {
    WithIdentity(run);
  } else {
    hook_waits_ = {++hooks_, kind};
    WithIdentity([this, run, number = hooks_](const absl::StatusOr<ServiceIdentity>& identity) {
      if (hook_waits_ && hook_waits_->number == number) {
        hook_waits_.reset();
        run(identity);
      }
    });
  }
}

void Instance::StartHook(HookKind kind) {
  const HookConfig& hook = [&]() -> const HookConfig& {
    switch (kind) {
      case HookKind::kPreStart:
        return config_.hooks.pre_start;
      case HookKind::kPostStart:
        return config_.hooks.post_start;
      case HookKind::kPreStop:
        return config_.hooks.pre_stop;
      case HookKind::kPostStop:
        return config_.hooks.post_stop;
    }
    return config_.hooks.pre_start;
  }();
  const bool is_post_start = kind == HookKind::kPostStart;
  const std::string name = HookName(kind);
  if (const std::string* why = identity_ ? identity_->Distrusts(hook.run.command) : nullptr) {
    LogWarning("hook not run", {{"service", id_}, {"hook", name}, {"error", *why}});
    Enqueue(HookEnded{kind, false, *why});
    return;
  }
  SpawnRequest request = BaseRequest(hook.run);
  if (pid() != 0) {
    SetVariable(request.environment, "MAINPID", fmt::format("{}", pid()));
  }
  std::unique_ptr<HelperCommand>& slot = is_post_start ? post_start_hook_ : hook_;
  slot.reset();  // before the next makes its cgroup at the same place
  RunMark mark = RunMark::Random();
  std::shared_ptr<void> birth = BeginBirth(fmt::format("{}#{}", id_, name), mark, request);
  slot = std::make_unique<HelperCommand>(
      context_.loop, std::move(request), MakeCgroup(fmt::format("{}#{}", id_, name)), std::move(mark), hook.timeout,
      [this, is_post_start, name, kind](const HelperCommand::Result& result) {
        context_.loop.DestroyLater(std::move(is_post_start ? post_start_hook_ : hook_));
        const std::string message = secrets_.Hide(result.message);
        if (!result.success) {
          LogWarning("hook failed", {{"service", id_}, {"hook", name}, {"error", message}});
        }
        Enqueue(HookEnded{kind, result.success, message});
      });
  slot->Hold(std::move(birth));
  FailPoint(FailPointId::kHookStarted);
}

void Instance::operator()(const CancelHook&) {
  if (hook_waits_) {
    Enqueue(HookEnded{std::exchange(hook_waits_, std::nullopt)->kind, false, "cancelled before it began"});
  } else if (hook_ != nullptr) {
    hook_->Cancel();
  }
}

}  // namespace supervisor
