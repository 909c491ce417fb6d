#include "daemon/service/helper_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "common/diag_log.h"
#include "common/errno_status.h"
#include "common/time_format.h"

namespace supervisor {
namespace {

constexpr size_t kKeptOutput = 1024;
constexpr absl::Duration kSweepInterval = absl::Milliseconds(10);
constexpr absl::Duration kRefusedSweepInterval = absl::Milliseconds(200);
// How long after the first SIGKILL what is left is waited for: where it was sent, and where it was not permitted.
constexpr absl::Duration kKillPatience = absl::Seconds(10);
constexpr absl::Duration kRefusalPatience = absl::Seconds(2);

// The last line that says something, on one line and printable.
std::string LastLine(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
    text.pop_back();
  }
  text.erase(0, text.rfind('\n') + 1);
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

}  // namespace

HelperCommand::HelperCommand(Loop& loop, SpawnRequest request, std::unique_ptr<Cgroup> cgroup, RunMark mark,
                             absl::Duration timeout, std::function<void(Result)> done)
    : loop_(loop), tree_(std::move(cgroup)), timeout_(timeout), done_(std::move(done)) {
  timer_ = loop_.NewTimer([this] {
    if (!std::exchange(decided_, true)) {
      result_.message = fmt::format("timed out after {}", FormatSpan(timeout_));
    }
    KillRest();
  });
  sweep_timer_ = loop_.NewTimer([this] { KillRest(); });
  Start(std::move(request), std::move(mark));
}

HelperCommand::~HelperCommand() {
  if (child_ != nullptr) {
    tree_.Kill();
  }
}

void HelperCommand::Start(SpawnRequest request, RunMark mark) {
  int output[2] = {-1, -1};
  if (pipe2(output, O_CLOEXEC | O_NONBLOCK) != 0) {
    result_.message = ErrnoText(errno);
    sweep_timer_->ArmAfter(absl::ZeroDuration());
    return;
  }
  output_fd_.Reset(output[0]);
  const UniqueFd write_end(output[1]);
  request.stdout_fd = write_end.get();
  request.stderr_fd = write_end.get();
  tree_.PlaceIn(request, std::move(mark));
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Spawn(loop_, std::move(request),
                          {.on_started =
                               [this, left = left_](const std::optional<SpawnFailure>& failure) {
                                 if (left->child == nullptr && failure && !std::exchange(decided_, true)) {
                                   result_.message = failure->ToString();
                                 }
                               },
                           .on_exit =
                               [this, left = left_, &loop = loop_](WaitStatus status) {
                                 if (left->child != nullptr) {
                                   loop.DestroyLater(std::move(left->child));
                                 } else {
                                   OnExit(status);
                                 }
                               }});
  if (!child.ok()) {
    result_.message = std::string(child.status().message());
    sweep_timer_->ArmAfter(absl::ZeroDuration());
    return;
  }
  child_ = *std::move(child);
  tree_.SetSession(child_->pid());
  output_watch_ = loop_.WatchFd(output_fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) { ReadOutput(); });
  if (timeout_ > absl::ZeroDuration()) {
    timer_->ArmAfter(timeout_);
  }
}

void HelperCommand::ReadOutput() {
  char buffer[4096];
  // A bounded number of reads a turn: a hook that writes without end gets its share of the loop and no more.
  for (int i = 0; i < 16; ++i) {
    const ssize_t got = read(output_fd_.get(), buffer, sizeof(buffer));
    if (got <= 0) {
      if (got == 0) {
        output_watch_.reset();
      }
      return;
    }
    output_.append(buffer, static_cast<size_t>(got));
    if (output_.size() > 2 * kKeptOutput) {
      output_.erase(0, output_.size() - kKeptOutput);
    }
  }
}

void HelperCommand::Cancel() {
  if (!std::exchange(decided_, true)) {
    result_.message = "cancelled";
  }
  KillRest();
}

void HelperCommand::OnExit(WaitStatus status) {
  if (output_watch_ != nullptr) {
    ReadOutput();
  }
  tree_.Reaped(child_->pid());
  child_.reset();
  timer_->Disarm();
  if (!std::exchange(decided_, true)) {
    result_.success = status.exit_code() == 0;
    result_.message = status.ToString();
    if (const std::string line = LastLine(output_); !result_.success && !line.empty()) {
      result_.message += ": " + line;
    }
  }
  KillRest();
}

// A hook's left-overs go with it: a hook that is to leave a process behind is a service.
void HelperCommand::KillRest() {
  const std::vector<SignalRefusal> refusals = tree_.Kill();
  if (child_ == nullptr && tree_.Empty()) {
    Finish();
    return;
  }
  const MonoTime now = MonotonicNow();
  if (!kill_began_) {
    kill_began_ = now;
  }
  if (now - *kill_began_ >= (refusals.empty() ? kKillPatience : kRefusalPatience)) {
    LeaveBehind(refusals);
    Finish();
    return;
  }
  // Each look at what refuses may read all of /proc.
  sweep_timer_->ArmAfter(refusals.empty() ? kSweepInterval : kRefusedSweepInterval);
}

void HelperCommand::LeaveBehind(const std::vector<SignalRefusal>& refusals) {
  const std::string what = refusals.empty() ? fmt::format("after SIGKILL {}", DescribeLeft(tree_.Pids()))
                                            : DescribeRefusals(SIGKILL, refusals);
  LogError("a command of a service cannot be ended and runs on",
           {{"lineage", fmt::format("{}", tree_.mark().lineage())}, {"error", what}});
  result_.success = false;
  result_.message += fmt::format("; it runs on: {}", what);
  left_->child = std::move(child_);
}

void HelperCommand::Finish() {
  output_watch_.reset();
  timer_->Disarm();
  sweep_timer_->Disarm();
  // Its cgroup goes now: the next command of the same name makes one at the same place.
  tree_ = ProcessTree(nullptr);
  if (const auto done = std::exchange(done_, nullptr)) {
    done(result_);
  }
}

}  // namespace supervisor
