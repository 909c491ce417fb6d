#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/diag_log.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/instance.h"

// What a service says of itself by sd_notify(3), and who may say it.

namespace supervisor {
namespace {

constexpr const char* kWatchdogVariable = "WATCHDOG_USEC";

}  // namespace

// The field's own variable, set in `environment` or `environment_file`: what sd_watchdog_enabled(3) reads on the other
// side, so a service needs nothing of ours. What the daemon was started with is not passed on.
absl::StatusOr<absl::Duration> Instance::WatchdogOf(const Environment& environment) const {
  for (const auto& [name, value] : environment) {
    if (name != kWatchdogVariable) {
      continue;
    }
    const std::optional<absl::Duration> interval = ParseMicroseconds(value);
    if (!interval) {
      return absl::InvalidArgumentError(
          fmt::format("environment {} is \"{}\" (expected a number of microseconds)", kWatchdogVariable, value));
    }
    return *interval;
  }
  return absl::ZeroDuration();
}

bool Instance::WantsNotifications(absl::Duration watchdog) const {
  return config_.readiness.type == ReadinessType::kNotify || watchdog > absl::ZeroDuration();
}

absl::Status Instance::OpenNotifySocket() {
  const std::string path = NotifyPath();
  absl::StatusOr<std::unique_ptr<NotifySocket>> socket = NotifySocket::Open(
      context_.loop, path, OwnUid(), [this](const Notification& notification) { OnNotification(notification); });
  if (!socket.ok()) {
    return socket.status();
  }
  notify_ = *std::move(socket);
  strangers_told_ = false;
  speakers_.clear();
  if (const absl::Status status = context_.held->Keep(path, notify_->fd()); !status.ok()) {
    LogWarning("what the service says of itself is lost while there is no daemon",
               {{"service", id_}, {"error", std::string(status.message())}});
  }
  return absl::OkStatus();
}

std::string Instance::NotifyPath() const {
  return fmt::format("{}/{}.notify", context_.state_directory, process_name_);
}

// For an adopted process: where it has spoken to all the while.
absl::Status Instance::ResumeNotifySocket() {
  UniqueFd held = context_.held->TakeSocket(NotifyPath());
  if (!held) {
    return OpenNotifySocket();
  }
  notify_ = NotifySocket::Resume(context_.loop, NotifyPath(), std::move(held),
                                 [this](const Notification& notification) { OnNotification(notification); });
  return absl::OkStatus();
}

// The main process, or one that it started, may speak for the service; nobody else. Who has ended meanwhile
// (systemd-notify(1) lives no longer than its message) is known by its user alone; but only that user and root can
// reach the socket.
bool Instance::MayNotify(const Notification& notification) {
  if (notification.sender == pid()) {
    return true;
  }
  const std::optional<ProcStat> stat = ReadProcStat(notification.sender);
  if (!stat || stat->is_dead()) {
    return notification.sender_uid == OwnUid();
  }
  // A process of the tree is one for life, and its start time tells it from the next one of that pid.
  if (const auto known = speakers_.find(stat->pid); known != speakers_.end() && known->second == stat->start_ticks) {
    return true;
  }
  if (!tree_.Contains(stat->pid)) {
    return false;
  }
  constexpr size_t kMostSpeakers = 64;
  if (speakers_.size() >= kMostSpeakers) {
    speakers_.clear();
  }
  speakers_[stat->pid] = stat->start_ticks;
  return true;
}

// Over the budget: its service talks far more than anybody can make use of.
bool Instance::HasBudgetFor(const Notification& notification) {
  const MonoTime now = MonotonicNow();
  if (notify_budget_.Take(notification.sender == pid(), now)) {
    return true;
  }
  if (notify_budget_.IsNews(now)) {
    LogWarning("drops notifications: the service sends too many",
               {{"service", id_},
                {"pid", fmt::format("{}", notification.sender)},
                {"heard", fmt::format("{} a second, {} at once", NotifyBudget::kASecond, NotifyBudget::kAtOnce)},
                {"dropped", fmt::format("{}", notify_budget_.dropped())}});
  }
  return false;
}

// Of an adopted process whose user is not known yet: as whom it runs.
uid_t Instance::OwnUid() const {
  if (identity_ && identity_->credentials) {
    return identity_->credentials->uid;
  }
  struct stat status {};
  const bool is_known = identity_.has_value() || stat(fmt::format("/proc/{}", pid()).c_str(), &status) != 0;
  return is_known ? geteuid() : status.st_uid;
}

void Instance::OnNotification(const Notification& notification) {
  if (!HasBudgetFor(notification)) {
    return;
  }
  if (child_ != nullptr && !execed_) {
    early_.push_back(notification);
  } else {
    Hear(notification);
  }
}

void Instance::Hear(const Notification& notification) {
  if (!MayNotify(notification)) {
    if (!std::exchange(strangers_told_, true)) {
      LogWarning("ignores a notification from a process that is not of the service",
                 {{"service", id_},
                  {"pid", fmt::format("{}", notification.sender)},
                  {"uid", fmt::format("{}", notification.sender_uid)}});
    }
    return;
  }
  if (!notification.status.empty()) {
    status_text_ = secrets_.Hide(notification.status);
    changed_ = true;
  }
  if (notification.main_pid != 0 && notification.main_pid != pid()) {
    ChangeMainProcess(notification.main_pid);
  }
  Enqueue(Notified{.ready = notification.ready,
                   .stopping = notification.stopping,
                   .reloading = notification.reloading,
                   .alive = notification.alive,
                   .hung = notification.hung,
                   .watchdog = notification.watchdog,
                   .extend = notification.extend});
}

// MAINPID=: from now on the service lives as long as that process, and signals go to it. What was the main process is
// reaped when it ends, and nothing more.
void Instance::ChangeMainProcess(pid_t main) {
  const auto refuse = [&](const std::string& why) {
    LogWarning("ignores MAINPID", {{"service", id_}, {"pid", fmt::format("{}", main)}, {"error", why}});
  };
  const std::optional<ProcStat> stat = ReadProcStat(main);
  if (child_ == nullptr || !stat || stat->is_dead() || !tree_.Contains(main)) {
    refuse("not a process of the service");
    return;
  }
  const uint64_t before = child_number_;
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Adopt(context_.loop, main, stat->start_ticks, ObserveChild());
  if (!child.ok()) {
    child_number_ = before;
    refuse(std::string(child.status().message()));
    return;
  }
  former_.emplace(before, std::exchange(child_, *std::move(child)));
  tree_.AddSession(stat->session);
  health_.SetProcess(main);
  changed_ = true;
  WritePidFile();
  LogInfo("the service has named its main process", {{"service", id_}, {"pid", fmt::format("{}", main)}});
}

}  // namespace supervisor
