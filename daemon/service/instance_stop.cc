#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "common/diag_log.h"
#include "common/fail_point.h"
#include "daemon/service/instance.h"

// How an instance is stopped, and the commands around its life.

namespace supervisor {
namespace {

constexpr absl::Duration kSlowestSweep = absl::Milliseconds(50);
// The file system of its program or its working directory hangs.
constexpr absl::Duration kHungExec = absl::Seconds(1);

}  // namespace

void Instance::operator()(const TerminateTree& action) {
  if (spawning_) {
    spawning_ = false;  // its identity or its logs were still being prepared: there is nothing to stop
    Enqueue(StartFailed{"stopped before it was started"});
    return;
  }
  const GracefulShutdownConfig& shutdown = config_.graceful_shutdown;
  const pid_t main = pid();
  FailPoint(FailPointId::kStopDecided);
  if (action.hung && child_ != nullptr) {
    static_cast<void>(child_->Signal(SIGABRT));
    static_cast<void>(child_->Signal(SIGCONT));
    return;
  }
  if (MonotonicNow() - awaits_exec_since() > kHungExec) {
    static_cast<void>(child_->Signal(SIGKILL));  // until its exec it blocks all others, and there is nobody to be asked
  } else if (shutdown.run.command.empty() || main == 0) {
    AskToGo();
  } else if (identity_) {
    RunStopCommand();
  } else {
    // An earlier daemon has started it. Never as the daemon's own user, which may be root.
    WithIdentity([this](absl::StatusOr<ServiceIdentity> identity) {
      if (machine_.phase != Phase::kTerminating || pid() == 0) {
        return;
      }
      if (identity.ok()) {
        TakeIdentity(*std::move(identity));
        RunStopCommand();
      } else {
        LogWarning("graceful_shutdown command cannot be run: the signal is sent in its place",
                   {{"service", id_}, {"error", std::string(identity.status().message())}});
        AskToGo();
      }
    });
  }
  FailPoint(FailPointId::kStopSignalled);
  if (child_ == nullptr) {
    CheckTreeEmpty();
  }
}

void Instance::RunStopCommand() {
  const GracefulShutdownConfig& shutdown = config_.graceful_shutdown;
  SpawnRequest request = BaseRequest(shutdown.run);
  SetVariable(request.environment, "MAINPID", fmt::format("{}", pid()));
  stop_command_.reset();
  std::shared_ptr<void> birth = BeginBirth(id_ + "#stop", request);
  stop_command_ = std::make_unique<HelperCommand>(
      context_.loop, std::move(request), MakeCgroup(id_ + "#stop"), tree_.mark() + "#stop", shutdown.timeout,
      [this](const HelperCommand::Result& result) {
        if (!result.success) {
          LogWarning("graceful_shutdown command failed", {{"service", id_}, {"error", secrets_.Hide(result.message)}});
        }
        context_.loop.DestroyLater(std::move(stop_command_));
      });
  stop_command_->Hold(std::move(birth));
}

// The main process first: it may want to end its workers in its own way. What it leaves behind is asked when it is
// gone.
void Instance::AskToGo() {
  const GracefulShutdownConfig& shutdown = config_.graceful_shutdown;
  if (child_ != nullptr) {
    static_cast<void>(child_->Signal(shutdown.signal));
    static_cast<void>(child_->Signal(SIGCONT));  // a stopped process would not see the signal
  } else if (shutdown.kill_mode == KillMode::kTree) {
    tree_.SignalAll(shutdown.signal, 0);
    tree_.SignalAll(SIGCONT, 0);
  }
}

void Instance::operator()(const KillTree&) {
  if (child_ != nullptr) {
    static_cast<void>(child_->Signal(SIGKILL));
  }
  tree_.Kill();
  FailPoint(FailPointId::kTreeKilled);
  if (child_ == nullptr) {
    CheckTreeEmpty();
  }
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
  sweep_delay_ = std::clamp(sweep_delay_ * 2, kShortestSweep, kSlowestSweep);
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
  SpawnRequest request = BaseRequest(hook.run);
  if (pid() != 0) {
    SetVariable(request.environment, "MAINPID", fmt::format("{}", pid()));
  }
  std::unique_ptr<HelperCommand>& slot = is_post_start ? post_start_hook_ : hook_;
  slot.reset();  // before the next makes its cgroup at the same place
  std::shared_ptr<void> birth = BeginBirth(fmt::format("{}#{}", id_, name), request);
  slot = std::make_unique<HelperCommand>(
      context_.loop, std::move(request), MakeCgroup(fmt::format("{}#{}", id_, name)),
      fmt::format("{}#{}", tree_.mark(), name), hook.timeout,
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
