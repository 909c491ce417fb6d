#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/instance.h"

// What an instance leaves on disk, and how a new daemon takes it over.

namespace supervisor {
namespace {

constexpr size_t kMostRecord = 65536;

}  // namespace

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
  tree_.SetCgroup(MakeCgroup(id_));
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
  context_.lookups.Post([leaving = leaving_] {
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

void Instance::WriteRecord() {
  InstanceRecord record{.boot_id = context_.boot_id,
                        .stopped_by_request = stopped_by_request_,
                        .pid = pid(),
                        .start_ticks = child_ != nullptr ? child_->start_ticks() : 0,
                        // Who is ready once exec'd is so for the next daemon too: one write less a start.
                        .ready = machine_.phase == Phase::kRunning ||
                                 (child_ != nullptr && config_.readiness.type == ReadinessType::kExec),
                        .attempts = machine_.attempts,
                        .restart_count = machine_.restart_count,
                        .started_unix_ms = started_ == absl::InfinitePast() ? 0 : absl::ToUnixMillis(started_),
                        .watchdog_us = absl::ToInt64Microseconds(machine_.watchdog),
                        .desired_up = machine_.desired_up,
                        .restarting = machine_.desired_up && StateOf(machine_.phase) == ServiceState::kStopping,
                        .exited = machine_.phase == Phase::kExited,
                        .failed = machine_.phase == Phase::kFailed,
                        .oom_events = limits_.counters().memory.oom,
                        .oom_kills = limits_.counters().memory.oom_kill,
                        .refused_forks = limits_.counters().refused_forks};
  if (record == written_) {
    return;
  }
  written_ = record;
  context_.files.Post([path = RecordPath(), text = FormatRecord(record), id = id_] {
    if (const absl::Status status = WriteFileAtomically(path, text, 0600); !status.ok()) {
      LogError("cannot write the record by which a new daemon would find the running service",
               {{"service", id}, {"error", std::string(status.message())}});
    }
  });
}

// A hook of the daemon before this one would run on beside the next of its kind. Known by its cgroup; without cgroups
// it is not found.
void Instance::KillLeftHooks() const {
  if (context_.cgroups == nullptr || context_.cgroups->WasEmpty()) {
    return;
  }
  for (const char* what : {"pre_start", "post_start", "pre_stop", "post_stop", "stop"}) {
    const std::unique_ptr<Cgroup> left = context_.cgroups->Find(fmt::format("{}#{}", id_, what));
    for (int round = 0; left != nullptr && round < 1000 && left->Populated(); ++round) {
      left->Kill();
    }
  }
}

void Instance::Adopt(const std::map<pid_t, WaitStatus>& reaped) {
  if (context_.cgroups != nullptr) {
    tree_.SetCgroup(context_.cgroups->Find(id_));
  }
  if (tree_.cgroup() != nullptr) {
    ApplyLimits();
  }
  const absl::StatusOr<std::string> text = ReadWholeFile(RecordPath(), kMostRecord);
  absl::StatusOr<InstanceRecord> record = text.ok() ? ParseRecord(*text) : text.status();
  if (text.ok() && !record.ok()) {
    const std::string aside = RecordPath() + ".damaged";
    rename(RecordPath().c_str(), aside.c_str());
    LogError("a record of a running service is damaged; set aside",
             {{"service", id_}, {"file", aside}, {"error", std::string(record.status().message())}});
  }
  if (record.ok() && record->boot_id == context_.boot_id) {
    written_ = *record;
    stopped_by_request_ = record->stopped_by_request;
    was_wanted_ = record->desired_up;
    limits_.ResumeRun(
        {.memory = {.oom = record->oom_events, .oom_kill = record->oom_kills}, .refused_forks = record->refused_forks});
    if (record->pid != 0) {
      absl::StatusOr<std::unique_ptr<ChildProcess>> child =
          ChildProcess::Adopt(context_.loop, record->pid, record->start_ticks, ObserveChild());
      const Adopted adopted{record->pid, record->ready, record->attempts, record->restart_count,
                            absl::Microseconds(record->watchdog_us)};
      if (child.ok()) {
        child_ = *std::move(child);
        execed_ = true;
        watchdog_ = adopted.watchdog;
        started_ = absl::FromUnixMillis(record->started_unix_ms);
        tree_.SetSession(record->pid);
        if (const std::optional<ProcStat> stat = ReadProcStat(record->pid)) {
          tree_.AddSession(stat->session);  // another than its own where the service has named its main process
        }
        ReopenLogs();
        KillLeftHooks();
        Enqueue(adopted);
        BeginHealth(!record->ready && config_.readiness.type == ReadinessType::kHealthCheck);
        if (record->restarting) {
          Enqueue(
              RestartRequested{{.actor = "supervisor", .reason = "its restart was under way when the daemon died"}});
        } else if (record->stopped_by_request) {
          Enqueue(StopRequested{{.actor = "supervisor", .reason = "it was being stopped when the daemon died"}, false});
        }
        return;
      }
      // What it started may have outlived it.
      tree_.SetSession(record->pid);
      tree_.Reaped(record->pid);
      if (!record->stopped_by_request) {
        // It ended while no daemon was there to see it.
        Enqueue(adopted);
        if (record->restarting) {
          Enqueue(
              RestartRequested{{.actor = "supervisor", .reason = "its restart was under way when the daemon died"}});
        }
        const auto exit = reaped.find(record->pid);
        const WaitStatus status = exit == reaped.end() ? WaitStatus::Unknown() : exit->second;
        Enqueue(ProcessExited{status, true, WhyItEnded(status)});
      }
    }
  }
  if (record.ok() && record->boot_id == context_.boot_id && record->pid == 0 && (record->exited || record->failed)) {
    Enqueue(FoundAtRest{record->failed, record->attempts, record->restart_count});
  }
  KillLeftHooks();
  // Whatever is left without a record that accounts for it would be a second one beside what we start.
  for (int round = 0; round < 1000 && !tree_.Empty(); ++round) {
    tree_.Kill();
  }
}

void Instance::ReopenLogs() {
  WithIdentity([this](absl::StatusOr<ServiceIdentity> identity) {
    if (identity.ok()) {
      identity_ = *std::move(identity);
    }
    if (child_ != nullptr && WantsNotifications(watchdog_)) {
      if (const absl::Status status = OpenNotifySocket(BaseRequest(config_.run).credentials); !status.ok()) {
        LogError("cannot hear what the adopted service says of itself",
                 {{"service", id_}, {"error", std::string(status.message())}});
      }
    }
    const auto keep = [this, alive = std::weak_ptr<bool>(alive_)](bool is_stderr) {
      return [this, alive, is_stderr, &loop = context_.loop](absl::StatusOr<UniqueFd> fd) {
        auto held = std::make_shared<absl::StatusOr<UniqueFd>>(std::move(fd));
        loop.Post([this, alive, is_stderr, held] {
          if (!alive.expired() && held->ok()) {
            (is_stderr ? stderr_fd_ : stdout_fd_) = std::move(**held);
          }
        });
      };
    };
    context_.logs.OpenAsync(stdout_stream(), StreamOptions(false), keep(false));
    if (config_.logs.stderr_mode == StderrMode::kSeparate) {
      context_.logs.OpenAsync(stderr_stream(), StreamOptions(true), keep(true));
    }
  });
}

void Instance::ReportExit(pid_t reaped, WaitStatus status) {
  if (child_ != nullptr && child_->pid() == reaped) {
    child_->ReportExit(status);
  }
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
  context_.logs.Close(stdout_stream());
  context_.logs.Close(stderr_stream());
  context_.files.Post([path = RecordPath()] { unlink(path.c_str()); });
}

std::string Instance::log_path() const { return fmt::format("{}/{}.log", context_.log_directory, id_); }

std::string Instance::stderr_log_path() const { return fmt::format("{}/{}.err.log", context_.log_directory, id_); }

}  // namespace supervisor
