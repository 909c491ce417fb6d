#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/signal_names.h"
#include "daemon/health/probe.h"
#include "daemon/health/text.h"

namespace supervisor {
namespace {

constexpr size_t kTailBytes = 4 << 10;
constexpr size_t kMatchedBytes = 1 << 20;
constexpr size_t kBytesATurn = 256 << 10;  // a script that floods leaves the loop to others in between
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

// A script: exit code 0 is healthy, if its output is as expected. Whatever it leaves behind, at the timeout or after a
// clean exit, is killed before the result is told.
//
//   Begin -> wait for its turn -> start (helper thread) -> run -> exit or deadline -> kill what is left -> judge
class ScriptProbe final : public Probe {
 public:
  ScriptProbe(ProbeTools& tools, ProbeRequest request)
      : tools_(tools),
        request_(std::move(request)),
        matcher_(std::make_shared<ContentMatcher>(request_.config, kMatchedBytes)),
        alive_(std::make_shared<bool>(true)) {}

  ScriptProbe(const ScriptProbe&) = delete;
  ScriptProbe& operator=(const ScriptProbe&) = delete;
  ~ScriptProbe() override {
    exit_watch_.reset();
    if (script_.has_value() && script_->tree.pidfd) {
      tools_.killer.Kill(std::move(script_->tree), nullptr);
    }
    if (began_.has_value() && !script_.has_value()) {
      tools_.scripts->GiveUp(alive_);
    }
  }

  void Begin() override {
    if (!matcher_->error().empty()) {
      request_.finish({.message = matcher_->error()});
      return;
    }
    AwaitTurn();
  }

  void DeadlinePassed() override {
    if (finishing_ || !began_.has_value()) {
      return;  // the killer tells in a moment; or its time has not begun, since others are before it
    }
    timed_out_ = true;
    ended_ = MonotonicNow();
    if (script_.has_value()) {
      KillLeftovers();
      return;
    }
    // Still being started. `alive_` goes with this probe, and then the starter hands the script to the killer.
    const std::string why = shortage_.empty() ? "the script has not started: a slow file system?" : shortage_;
    request_.finish({.message = fmt::format("timed out after {} ({})", DurationText(request_.config.timeout), why),
                     .timed_out = true});
  }

 private:
  void AwaitTurn() {
    if (tools_.scripts->StillHangs(request_.target.id)) {
      BeginTime();
      TryLater("the script's last start hangs: a slow file system?");
      return;
    }
    tools_.gate.Enter(alive_, [this](uint64_t visit) { Start(visit); });
  }

  void BeginTime() {
    if (!began_.has_value()) {
      began_ = MonotonicNow();
      request_.begins();
    }
  }

  void TryLater(std::string why) {
    shortage_ = std::move(why);
    retry_ = tools_.loop.NewTimer([this] { AwaitTurn(); });
    retry_->ArmAfter(kRetryAfter);
  }

  void Start(uint64_t visit) {
    BeginTime();
    tools_.scripts->Start(visit, tools_.starters, request_.config, request_.target, alive_,
                          [this](absl::StatusOr<StartedScript> started) { OnStarted(std::move(started)); });
  }

  void OnStarted(absl::StatusOr<StartedScript> started) {
    if (timed_out_) {
      if (started.ok()) {
        tools_.killer.Kill(std::move(started->tree), nullptr);
      }
      return;
    }
    if (!started.ok()) {
      OnStartFailed(started.status());
      return;
    }
    script_ = *std::move(started);
    output_watch_ = tools_.loop.WatchFd(script_->output.get(), Loop::Interest::kRead,
                                        [this](Loop::Ready /*ready*/) { ReadOutput(kBytesATurn); });
    exit_watch_ = tools_.loop.WatchFd(script_->tree.pidfd.get(), Loop::Interest::kRead,
                                      [this](Loop::Ready /*ready*/) { OnExit(); });
  }

  void OnStartFailed(const absl::Status& status) {
    // That this machine has no more processes or descriptors says nothing about the service: try until the deadline.
    if (status.code() == absl::StatusCode::kResourceExhausted || status.code() == absl::StatusCode::kUnavailable) {
      TryLater(std::string(status.message()));
      return;
    }
    request_.finish({.message = std::string(status.message())});
  }

  void ReadOutput(size_t most) {
    std::array<char, 16384> chunk{};
    for (size_t taken = 0; taken < most;) {
      const ssize_t count = read(script_->output.get(), chunk.data(), chunk.size());
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0 && errno == EAGAIN) {
        return;
      }
      if (count <= 0) {
        output_watch_.reset();
        return;
      }
      taken += static_cast<size_t>(count);
      Keep({chunk.data(), static_cast<size_t>(count)});
    }
  }

  void Keep(std::string_view piece) {
    matcher_->Append(piece);
    tail_.append(piece);
    if (tail_.size() > 2 * kTailBytes) {
      tail_.erase(0, tail_.size() - kTailBytes);
    }
  }

  void OnExit() {
    ScriptExit exit;
    if (!PeekExit(script_->tree.pidfd.get(), exit)) {
      return;
    }
    exit_ = exit;
    ended_ = MonotonicNow();
    KillLeftovers();
  }

  void KillLeftovers() {
    finishing_ = true;
    exit_watch_.reset();
    tools_.killer.Kill(std::move(script_->tree), [this, alive = std::weak_ptr<bool>(alive_)](bool all_gone) {
      if (!alive.expired()) {
        OnGone(all_gone);
      }
    });
  }

  void OnGone(bool all_gone) {
    ReadOutput(kMatchedBytes);  // what is still in the pipe
    output_watch_.reset();
    script_->output.Reset();
    const std::string stayed = all_gone ? "" : "; it left processes behind that do not die";
    if (timed_out_) {
      Tell(false, fmt::format("timed out after {}{}", DurationText(request_.config.timeout), stayed));
    } else if (!exit_.exited) {
      Tell(false, fmt::format("killed by {}{}", SignalName(exit_.value), stayed));
    } else if (exit_.value != 0 || !all_gone) {
      Tell(exit_.value == 0, fmt::format("exit code {}{}", exit_.value, stayed));
    } else {
      JudgeContent(tools_, matcher_, "output", alive_, [this](const std::optional<std::string>& failure) {
        Tell(!failure.has_value(), failure.value_or("exit code 0"));
      });
    }
  }

  void Tell(bool success, std::string message) {
    if (const std::string output = OneLineTail(tail_, kTailBytes); !output.empty()) {
      message += ": " + output;
    }
    request_.finish(
        {.success = success, .message = std::move(message), .timed_out = timed_out_, .took = ended_ - *began_});
  }

  ProbeTools& tools_;
  ProbeRequest request_;
  std::shared_ptr<ContentMatcher> matcher_;
  std::shared_ptr<bool> alive_;
  std::optional<MonoTime> began_;
  MonoTime ended_;
  bool timed_out_ = false;
  bool finishing_ = false;
  std::string shortage_;
  std::string tail_;
  ScriptExit exit_;
  std::unique_ptr<Loop::Timer> retry_;
  std::optional<StartedScript> script_;
  std::unique_ptr<Loop::Watch> output_watch_;  // after script_, so destroyed before the descriptors close
  std::unique_ptr<Loop::Watch> exit_watch_;
};

}  // namespace

std::unique_ptr<Probe> NewScriptProbe(ProbeTools& tools, ProbeRequest request) {
  return std::make_unique<ScriptProbe>(tools, std::move(request));
}

}  // namespace supervisor
