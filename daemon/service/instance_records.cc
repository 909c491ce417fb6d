#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/diag_log.h"
#include "common/time_format.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/instance.h"

// What an instance leaves on disk, for the next daemon to find: see instance_adoption.cc.

namespace supervisor {
std::unique_ptr<Cgroup> Instance::MakeCgroup(const std::string& name) const {
  if (context_.cgroups == nullptr) {
    return nullptr;
  }
  absl::StatusOr<std::unique_ptr<Cgroup>> cgroup = context_.cgroups->Create(name);
  if (!cgroup.ok()) {
    LogWarning("no cgroup: its processes are tracked by session and descent",
               {{"service", id_}, {"error", std::string(cgroup.status().message())}});
    return nullptr;
  }
  return *std::move(cgroup);
}

// Made when it is first needed: of a thousand services at boot each finds its own in time, and none waits for all.
void Instance::EnterCgroup() {
  if (const std::shared_ptr<LeavingCgroup> leaving = std::exchange(leaving_, nullptr)) {
    const std::lock_guard lock(leaving->mutex);
    tree_.SetCgroup(std::move(leaving->cgroup));
  }
  if (tree_.cgroup() != nullptr && tree_.cgroup()->TakesBirths()) {
    tree_.cgroup()->MakeHabitable();
    return;
  }
  tree_.SetCgroup(nullptr);
  tree_.SetCgroup(MakeCgroup(process_name_));
  if (tree_.cgroup() != nullptr) {
    tree_.cgroup()->MakeHabitable();
  }
  ApplyLimits();
}

// Nothing is left in it. To remove it takes the kernel a while, and nobody waits for that.
void Instance::LeaveCgroup() {
  if (tree_.cgroup() == nullptr) {
    return;
  }
  leaving_ = std::make_shared<LeavingCgroup>();
  leaving_->cgroup = tree_.TakeCgroup();
  // Not in line with the files: who waits for those does not wait for this.
  context_.removals.Post([leaving = leaving_] {
    const std::lock_guard lock(leaving->mutex);
    leaving->cgroup.reset();
  });
}

void Instance::WritePidFile() {
  context_.files.Post([path = fmt::format("{}/{}.pid", context_.pid_directory, id_), pid = child_->pid(), id = id_] {
    if (const absl::Status status = WriteFileAtomically(path, fmt::format("{}\n", pid), 0644); !status.ok()) {
      LogWarning("cannot write pid file", {{"service", id}, {"error", std::string(status.message())}});
    }
  });
}

void Instance::RemovePidFile() {
  context_.files.Post([path = fmt::format("{}/{}.pid", context_.pid_directory, id_)] { unlink(path.c_str()); });
}

std::string Instance::RecordPath() const { return fmt::format("{}/{}.record", context_.state_directory, id_); }

void Instance::WriteRecord(bool exactly) {
  // Its process has gone, and the machine has not been told yet: then the record and the zombie say what is so, and a
  // new record would forget the end.
  if (!may_write_ || (child_ == nullptr && machine_.process_alive && !spawning_)) {
    return;
  }
  InstanceRecord record{
      .boot = context_.boot,
      .stopped_by_request = stopped_by_request_,
      .pid = pid(),
      .start_ticks = child_ != nullptr ? child_->start_ticks() : 0,
      // Who is ready once exec'd is so for the next daemon too: one write less a start.
      .ready =
          machine_.phase == Phase::kRunning || (child_ != nullptr && config_.readiness.type == ReadinessType::kExec),
      .attempts = machine_.attempts,
      .restart_count = machine_.restart_count,
      .started_unix_ms = started_ == absl::InfinitePast() ? 0 : absl::ToUnixMillis(started_),
      .started_boot_ms = started_ == absl::InfinitePast() ? 0 : absl::ToInt64Milliseconds(started_boot_),
      .watchdog_us = absl::ToInt64Microseconds(machine_.watchdog),
      .desired_up = machine_.desired_up,
      .restarting =
          machine_.desired_up && (StateOf(machine_.phase) == ServiceState::kStopping || AwaitsItsTurnToStop(machine_)),
      .exited = machine_.phase == Phase::kExited,
      .failed = machine_.phase == Phase::kFailed,
      .oom_events = limits_.counters().memory.oom,
      .oom_kills = limits_.counters().memory.oom_kill,
      .refused_forks = limits_.counters().refused_forks,
      .spawn = launches_,
      .last_restart_unix_ms = last_restart_ == absl::InfinitePast() ? 0 : absl::ToUnixMillis(last_restart_),
      .last_exit = machine_.last_exit,
      .exit_untold = machine_.last_exit && !machine_.exit_told,
      .ended_pid = machine_.last_exit && !machine_.exit_told ? ended_pid_ : 0,
      .failure = machine_.failure,
      .reason = IsAlive(machine_.phase) ? std::string() : machine_.reason,
      .backoff_until_ms = BackoffUntil(),
      .untold = untold_,
      .mark = tree_.mark().secret(),
      .owner = tree_.owner(),
      .health = RecordHealth(health_.health() != Health::kUnknown, health_.verdict()),
      .environment_file_digest = environment_file_digest_,
      .process_name = process_name_};
  if (!exactly) {
    InstanceRecord but_for_counters = record;
    but_for_counters.health.checks = written_.health.checks;
    but_for_counters.health.successes = written_.health.successes;
    // That an end is in the database is no hurry either: the next daemon would look before it tells it again.
    if (std::ranges::all_of(record.untold, [this](const EventRow& row) {
          return std::ranges::find(written_.untold, row) != written_.untold.end();
        })) {
      but_for_counters.untold = written_.untold;
    }
    if (but_for_counters == written_) {
      return;
    }
  }
  if (record == written_) {
    return;
  }
  written_ = record;
  context_.files.Post([path = RecordPath(), text = FormatRecord(record), id = id_, on_disk = on_disk_] {
    const absl::Status status = WritePage(path, text, 0600);
    on_disk->is_current = status.ok();
    if (status.ok()) {
      on_disk->births.clear();
    } else {
      LogError("cannot write the record by which a new daemon would find the running service",
               {{"service", id}, {"error", std::string(status.message())}});
    }
  });
}

void Instance::RestoreFiles() {
  if (written_ != InstanceRecord{}) {
    written_ = {};
    WriteRecord(true);
  }
  if (child_ != nullptr) {
    WritePidFile();
  }
  if (notify_ != nullptr && access(notify_->path().c_str(), F_OK) != 0) {
    notify_->GiveUpName();
    former_notify_ = std::move(notify_);
    if (const absl::Status status = OpenNotifySocket(); !status.ok()) {
      LogWarning("the service cannot be heard", {{"service", id_}, {"error", std::string(status.message())}});
    }
  }
}

// Of one that is on its way up after a restart by policy the wait is over, but not the restart.
int64_t Instance::BackoffUntil() {
  if (machine_.phase == Phase::kBackoff) {
    if (backoff_end_.deadline != machine_.deadline) {
      const absl::Duration left = machine_.deadline - MonotonicNow();
      backoff_end_ = {.deadline = machine_.deadline,
                      .since_boot_ms = std::max<int64_t>(absl::ToInt64Milliseconds(SinceBoot() + left), 1)};
    }
    return backoff_end_.since_boot_ms;
  }
  return machine_.is_restart && child_ == nullptr && IsComingUp(machine_.phase) ? 1 : 0;
}

uint64_t Instance::KeepUntilTold(EventRow row) {
  uint64_t given_up = 0;
  constexpr size_t kMost = 64;  // a database that cannot be written for long must not let records grow
  if (untold_.size() == kMost) {
    LogWarning(
        "the database is behind: should the daemon die now, this end is in its log alone",
        {{"service", id_}, {"ended_at", FormatTimestamp(untold_.front().timestamp)}, {"end", untold_.front().message}});
    given_up = untold_.front().ticket;
    untold_.erase(untold_.begin());
  }
  untold_.push_back(std::move(row));
  return given_up;
}

void Instance::TidyRecord() {
  if (untold_.size() != written_.untold.size()) {
    WriteRecord(true);
  }
}

void Instance::Told(uint64_t ticket) {
  std::erase_if(untold_, [ticket](const EventRow& row) { return row.ticket == ticket; });
}

std::shared_ptr<BirthJournal::Birth> Instance::BeginBirth(const std::string& name, const RunMark& mark,
                                                          SpawnRequest& request) const {
  if (context_.births == nullptr) {
    return nullptr;
  }
  std::shared_ptr<BirthJournal::Birth> birth =
      context_.births->Begin({.name = name,
                              .number = name == id_ ? launches_ : 0,
                              .attempts = machine_.attempts,
                              .restart_count = machine_.restart_count,
                              .started_unix_ms = absl::ToUnixMillis(WallNow()),
                              .watchdog_us = absl::ToInt64Microseconds(watchdog_),
                              .begun_ticks = ClockTicks(SinceBoot()),
                              .mark = mark.secret()});
  if (birth != nullptr) {
    request.birth = birth->note();
  }
  return birth;
}

absl::Status Instance::SendSignal(int signal, const Cause& cause) {
  if (child_ == nullptr) {
    return absl::FailedPreconditionError(fmt::format("{} is not running", id_));
  }
  absl::Status sent = child_->Signal(signal);
  if (sent.ok()) {
    signalled_ = Signalled{signal, cause};
  }
  return sent;
}

void Instance::Forget() {
  WriteNoMore();
  const std::function<void()> discard = PrepareToDiscard();
  context_.logs.Close(stdout_stream());
  context_.logs.Close(stderr_stream());
  context_.logs.Flush(stderr_stream(), absl::ZeroDuration(), discard);  // in line behind the two
  context_.files.Post([path = RecordPath()] { unlink(path.c_str()); });
}

std::function<void()> Instance::PrepareToDiscard() const {
  auto fifos = std::make_shared<std::vector<UniqueFd>>();
  const bool may_be_left = config_.graceful_shutdown.kill_mode == KillMode::kProcess || !machine_.stuck.empty();
  if (may_be_left && context_.discard_output) {
    for (const bool is_stderr : {false, true}) {
      UniqueFd fifo(open(StreamOptions(is_stderr).fifo_path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
      if (fifo) {
        fifos->push_back(std::move(fifo));
      }
    }
    if (const std::vector<pid_t> left = tree_.Pids(); !left.empty()) {
      LogWarning("processes of the service are left running: what they write from now on is thrown away",
                 {{"service", id_}, {"processes", DescribeLeft(left)}});
    }
  }
  return [fifos, discard = context_.discard_output] {
    for (UniqueFd& fifo : *fifos) {
      discard(std::move(fifo));
    }
  };
}

std::string Instance::log_path() const { return fmt::format("{}/{}.log", context_.log_directory, id_); }

LastLinesOf Instance::WhoseLastLines() const {
  const bool separate = config_.logs.stderr_mode == StderrMode::kSeparate;
  return {.log_files = separate ? std::vector{log_path(), stderr_log_path()} : std::vector{log_path()},
          .secrets = secrets_,
          .environment_file = config_.environment_file};
}

std::vector<std::string> Instance::streams() const {
  return config_.logs.stderr_mode == StderrMode::kSeparate ? std::vector{stdout_stream(), stderr_stream()}
                                                           : std::vector{stdout_stream()};
}

std::string Instance::stderr_log_path() const { return fmt::format("{}/{}.err.log", context_.log_directory, id_); }

}  // namespace supervisor
