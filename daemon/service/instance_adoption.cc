#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/diag_log.h"
#include "common/errno_status.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/descriptor_need.h"
#include "daemon/service/instance.h"
#include "daemon/service/log_access.h"

// How a new daemon takes an instance over from one that is gone: crashed, killed or replaced, at whatever moment.

namespace supervisor {
namespace {

constexpr size_t kMostRecord = 1 << 20;

bool WasOfThis(const BirthJournal::Left& birth, const ProcStat& stat) {
  constexpr uint64_t kTicksFromThereToTheClone = 200;  // two seconds, on a machine that is very busy
  return stat.start_ticks >= birth.plan.begun_ticks &&
         stat.start_ticks - birth.plan.begun_ticks <= kTicksFromThereToTheClone;
}

// Waits, briefly, until a process that was cloned just before its daemon died has exec'd: it needs nobody for that.
// Nothing where it has not, and then it is ended.
std::optional<ProcStat> ExecedProcess(const BirthJournal::Left& birth) {
  const UniqueFd pid_fd(static_cast<int>(syscall(SYS_pidfd_open, birth.note.pid, 0)));
  if (!pid_fd) {
    return std::nullopt;
  }
  constexpr int kRounds = 100;
  constexpr int kRoundMs = 2;
  for (int round = 0; round < kRounds; ++round) {
    const std::optional<ProcStat> stat = ReadProcStat(birth.note.pid);
    if (!stat || stat->is_dead() || !WasOfThis(birth, *stat)) {
      return std::nullopt;
    }
    const std::string& mark = birth.plan.mark;  // empty: a program before this one has started it
    if (stat->has_execed && (mark.empty() || EnvironmentValue(birth.note.pid, RunMark::kVariable) == mark)) {
      return stat;
    }
    pollfd ended{.fd = pid_fd.get(), .events = POLLIN, .revents = 0};
    poll(&ended, 1, kRoundMs);
  }
  syscall(SYS_pidfd_send_signal, pid_fd.get(), SIGKILL, nullptr, 0);
  return std::nullopt;
}

}  // namespace

// A hook of the daemon before this one would run on beside the next of its kind. Known by its cgroup, or by its entry
// among the births.
void Instance::KillLeftHooks(const std::vector<BirthJournal::Left>& births) const {
  const auto tell = [this](const std::vector<SignalRefusal>& refusals) {
    if (!refusals.empty()) {
      LogError("a hook of the daemon before this one cannot be killed and runs on",
               {{"service", id_}, {"error", DescribeRefusals(SIGKILL, refusals)}});
    }
  };
  if (context_.cgroups != nullptr && !context_.cgroups->WasEmpty()) {
    for (const std::string& name : std::set{id_, process_name_}) {
      for (const char* what : {"pre_start", "post_start", "pre_stop", "post_stop", "stop"}) {
        tell(ProcessTree(context_.cgroups->Find(fmt::format("{}#{}", name, what))).KillUntilEmpty());
      }
    }
  }
  for (const BirthJournal::Left& birth : births) {
    const size_t hash = birth.plan.name.find('#');
    const std::optional<ProcStat> stat = ReadProcStat(birth.note.pid);
    if (hash == std::string::npos || birth.note.pid == 0 || (stat && !WasOfThis(birth, *stat))) {
      continue;
    }
    ProcessTree tree(nullptr, RunMark(birth.plan.mark));
    tree.SetSession(birth.note.pid);
    tell(tree.KillUntilEmpty());
  }
}

// What is on disk; an empty one where there is none of this boot. An error: it may be there, and cannot be read now.
absl::StatusOr<InstanceRecord> Instance::ReadRecord() {
  const absl::StatusOr<std::string> text = ReadOwnFile(RecordPath(), kMostRecord);
  if (absl::IsNotFound(text.status())) {
    return InstanceRecord{};
  }
  if (absl::IsResourceExhausted(text.status())) {  // no descriptors, no memory
    return text.status();
  }
  absl::StatusOr<InstanceRecord> record = text.ok() ? ParseRecord(*text) : text.status();
  if (!record.ok()) {
    const std::string aside = RecordPath() + ".damaged";
    rename(RecordPath().c_str(), aside.c_str());
    const std::string message = fmt::format(
        "its record is damaged and was set aside as {}: {}; what still runs of it is stopped before it is "
        "started anew",
        aside, std::string(record.status().message()));
    LogError(message, {{"service", id_}});
    context_.observer.OnRecord(*this, {.type = "failed",
                                       .message = message,
                                       .cause = {.actor = "supervisor", .reason = {}},
                                       .exit = {},
                                       .attempt = 0,
                                       .delay = {}});
    return InstanceRecord{};
  }
  if (IsSameBoot(record->boot, context_.boot)) {
    return *std::move(record);
  }
  // The machine or the container was started again: `enabled` decides, and attempts count from the beginning. What the
  // database may not have yet is told all the same.
  LogDebug("its record is of an earlier boot of the machine or the container", {{"service", id_}});
  RemovePidFile();
  InstanceRecord fresh;
  fresh.untold = std::move(record->untold);
  return fresh;
}

void Instance::TellEnd(pid_t pid, const ReapedLookup& reaped) {
  const WaitStatus status = reaped(pid).value_or(WaitStatus::Unknown());
  ended_pid_ = pid;
  context_.observer.OnRecord(*this, {.type = "exited",
                                     .message = status.ToString(),
                                     .cause = {.actor = "service", .reason = {}},
                                     .exit = status,
                                     .attempt = 0,
                                     .delay = {}});
}

// Brings the record up to what was born since it was written: mostly nothing, and one process where the daemon died
// between a clone and the next write.
void Instance::FollowBirths(const ReapedLookup& reaped, const std::vector<BirthJournal::Left>& births,
                            InstanceRecord& record) {
  for (const BirthJournal::Left& birth : births) {
    if (birth.plan.name != id_ || birth.plan.number < record.spawn || birth.note.pid == 0) {
      continue;
    }
    const bool is_on_record = birth.plan.number == record.spawn;
    if (!is_on_record) {
      if (record.pid != 0) {
        TellEnd(record.pid, reaped);
      }
      const std::optional<ProcStat> stat = ExecedProcess(birth);
      const bool ready_at_once = config_.readiness.type == ReadinessType::kExec;
      record.boot = context_.boot;
      record.stopped_by_request = false;
      record.pid = birth.note.pid;
      record.start_ticks = stat ? stat->start_ticks : 0;
      record.ready = ready_at_once;
      record.attempts = birth.plan.attempts;
      record.restart_count = birth.plan.restart_count;
      record.started_unix_ms = birth.plan.started_unix_ms;
      record.started_boot_ms = absl::ToInt64Milliseconds(FromClockTicks(birth.plan.begun_ticks));
      record.watchdog_us = birth.plan.watchdog_us;
      record.desired_up = true;
      record.restarting = record.exited = record.failed = record.exit_untold = false;
      record.spawn = birth.plan.number;
      record.health = {};
      record.mark = birth.plan.mark;
      record.owner.reset();
    }
    if (birth.note.failed_step != 0 && record.pid == birth.note.pid) {
      LogWarning("the daemon before this one died while it started the service, and that failed: it is tried again",
                 {{"service", id_}, {"error", ErrnoText(birth.note.error)}});
      record.pid = 0;
      record.backoff_until_ms = record.restart_count > 0 ? 1 : 0;
    }
  }
}

Adopted Instance::AdoptedOf(const InstanceRecord& record) const {
  return {.pid = record.pid,
          .ready = record.ready,
          .attempts = record.attempts,
          .restart_count = record.restart_count,
          .watchdog = absl::Microseconds(record.watchdog_us),
          .up_for = std::max(SinceBoot() - StartSinceBoot(record), absl::ZeroDuration())};
}

absl::Status Instance::Adopt(const ReapedLookup& reaped, const std::vector<BirthJournal::Left>& births) {
  absl::StatusOr<InstanceRecord> read = ReadRecord();
  if (!read.ok()) {
    return {read.status().code(), fmt::format("cannot take over {}: {}", id_, std::string(read.status().message()))};
  }
  InstanceRecord record = *std::move(read);
  if (!record.process_name.empty()) {
    process_name_ = record.process_name;
  }
  if (context_.cgroups != nullptr) {
    tree_.SetCgroup(context_.cgroups->Find(process_name_));
  }
  if (tree_.cgroup() != nullptr) {
    ApplyLimits();
  }
  written_ = record;
  for (EventRow& row : record.untold) {
    row.service_id = id_;
    row.unless_there = true;
    context_.observer.OnUntold(*this, std::move(row));
  }
  record.untold.clear();
  FollowBirths(reaped, births, record);
  const bool is_of_an_earlier_version = record.pid != 0 && record.mark.empty();
  tree_.Resume(
      RunMark(is_of_an_earlier_version ? fmt::format("{}/{}", context_.state_directory, process_name_) : record.mark),
      record.owner);
  launches_ = record.spawn;
  environment_file_digest_ = record.environment_file_digest;
  stopped_by_request_ = record.stopped_by_request;
  was_wanted_ = record.desired_up;
  if (record.last_restart_unix_ms != 0) {
    last_restart_ = absl::FromUnixMillis(record.last_restart_unix_ms);
  }
  limits_.ResumeRun(
      {.memory = {.oom = record.oom_events, .oom_kill = record.oom_kills}, .refused_forks = record.refused_forks});
  has_former_fifo_ = access(fmt::format("{}/{}.out", context_.state_directory, process_name_).c_str(), F_OK) == 0;
  if (record.pid != 0) {
    absl::StatusOr<std::unique_ptr<ChildProcess>> child =
        ChildProcess::Adopt(context_.loop, record.pid, record.start_ticks, ObserveChild());
    if (child.ok()) {
      KillLeftHooks(births);
      Resume(record, *std::move(child));
      return absl::OkStatus();
    }
    // Any other trouble than its absence says nothing about it; and to start a second one would be worse than to wait.
    if (!absl::IsNotFound(child.status())) {
      return {child.status().code(),
              fmt::format("cannot take over {}: {}", id_, std::string(child.status().message()))};
    }
    RemovePidFile();
    // What it started may have outlived it.
    tree_.SetSession(record.pid);
    tree_.Reaped(record.pid);
    ended_pid_ = record.pid;
    GoOnAfter(record, reaped(record.pid).value_or(WaitStatus::Unknown()));
  } else if (record.exit_untold && record.last_exit) {
    RemovePidFile();
    ended_pid_ = record.ended_pid;
    if (ended_pid_ != 0) {  // what it started may be there still
      tree_.SetSession(ended_pid_);
      tree_.Reaped(ended_pid_);
    }
    GoOnAfter(record, *record.last_exit);
  } else {
    Rest(record);
  }
  KillLeftHooks(births);
  // Whatever is left without a record that accounts for it would be a second one beside what we start; but for those
  // that the configuration has left to themselves.
  if (config_.graceful_shutdown.kill_mode == KillMode::kTree) {
    if (const std::vector<SignalRefusal> refusals = tree_.KillUntilEmpty(); !refusals.empty()) {
      LogError("what an earlier run has left cannot be killed and runs on",
               {{"service", id_}, {"error", DescribeRefusals(SIGKILL, refusals)}});
    }
  }
  return absl::OkStatus();
}

// It runs.
void Instance::Resume(const InstanceRecord& record, std::unique_ptr<ChildProcess> child) {
  child_ = std::move(child);
  execed_ = true;
  WritePidFile();  // which the last daemon may not have come to
  const Adopted adopted = AdoptedOf(record);
  watchdog_ = adopted.watchdog;
  started_ = absl::FromUnixMillis(record.started_unix_ms);
  started_boot_ = StartSinceBoot(record);
  tree_.SetSession(record.pid);
  if (const std::optional<ProcStat> stat = ReadProcStat(record.pid)) {
    tree_.AddSession(stat->session);  // another than its own where the service has named its main process
  }
  ReopenOutput();
  Enqueue(adopted);
  BeginHealth(!record.ready && config_.readiness.type == ReadinessType::kHealthCheck,
              VerdictOf(record.health, MonotonicNow() - adopted.up_for));
  if (record.restarting) {
    Enqueue(
        RestartRequested{{.actor = "supervisor", .reason = "its restart was under way when the daemon died"}, true});
  } else if (record.stopped_by_request) {
    Enqueue(StopRequested{{.actor = "supervisor", .reason = "it was being stopped when the daemon died"}, true});
  }
}

// It ended while no daemon was there to see it, or none that could tell.
void Instance::GoOnAfter(const InstanceRecord& record, const WaitStatus& status) {
  Adopted adopted = AdoptedOf(record);
  adopted.is_alive = false;
  ReopenOutput();  // for what it wrote last
  Enqueue(adopted);
  if (record.restarting) {
    Enqueue(RestartRequested{{.actor = "supervisor", .reason = "its restart was under way when the daemon died"}});
  } else if (record.stopped_by_request) {
    Enqueue(StopRequested{{.actor = "supervisor", .reason = "it was being stopped when the daemon died"}, false});
  }
  Enqueue(ProcessExited{status, true, WhyItEnded(status)});
}

// Nothing of it runs, but for what the configuration leaves to itself: that still writes.
void Instance::Rest(const InstanceRecord& record) {
  if (record.boot.empty()) {
    return;
  }
  if (config_.graceful_shutdown.kill_mode == KillMode::kProcess) {
    ReopenOutput();
  }
  const absl::Duration wait = absl::Milliseconds(record.backoff_until_ms) - SinceBoot();
  Phase phase = Phase::kStopped;
  if (record.exited) {
    phase = Phase::kExited;
  } else if (record.failed) {
    phase = Phase::kFailed;
  } else if (record.backoff_until_ms != 0 && record.desired_up) {
    phase = Phase::kBackoff;
  }
  Enqueue(FoundAtRest{.phase = phase,
                      .attempts = record.attempts,
                      .restart_count = record.restart_count,
                      .last_exit = record.last_exit,
                      .failure = record.failure,
                      .reason = record.reason,
                      .wait = std::max(wait, absl::ZeroDuration())});
}

// For the scripts that check a process which another daemon has started. Not by its whole identity: an environment file
// that is gone by now says nothing about the user.
void Instance::LookUpRunAs() {
  if (config_.health_check.script_environment == ScriptEnvironment::kService) {
    LookUpScriptEnvironment();
    return;
  }
  if (config_.user.empty() && config_.group.empty()) {
    health_.TakeRunAs(RunAsOf(std::nullopt));
    return;
  }
  using Credentials = SpawnRequest::Credentials;
  context_.lookups.Ask<Credentials>(
      alive_, [user = config_.user, group = config_.group] { return LookUpCredentials(user, group); },
      [this](const absl::StatusOr<Credentials>& credentials) {
        health_.TakeRunAs(credentials.ok() ? absl::StatusOr<std::shared_ptr<const RunAs>>(RunAsOf(*credentials))
                                           : credentials.status());
      });
}

// Of a script that is run with the service's environment, that one's file included.
void Instance::LookUpScriptEnvironment() {
  if (identity_) {
    health_.TakeRunAs(RunAsOf(identity_->credentials));
    return;
  }
  WithIdentity([this](absl::StatusOr<ServiceIdentity> identity) {
    const absl::Status status = identity.status();
    if (!identity_ && identity.ok()) {
      TakeIdentity(*std::move(identity));
    }
    health_.TakeRunAs(identity_ ? absl::StatusOr<std::shared_ptr<const RunAs>>(RunAsOf(identity_->credentials))
                                : status);
  });
}

// At once: output that nobody takes stops a service sooner or later, a watchdog that hears nothing kills it, and
// whoever is asked for its user may not answer.
void Instance::ReopenOutput() {
  log_access_.mode = config_.logs.mode;
  OpenStreams();
  if (child_ != nullptr && notify_ == nullptr && WantsNotifications(watchdog_)) {
    if (const absl::Status status = ResumeNotifySocket(); !status.ok()) {
      LogError("cannot hear what the adopted service says of itself",
               {{"service", id_}, {"error", std::string(status.message())}});
    }
  }
  WithIdentity([this](absl::StatusOr<ServiceIdentity> identity) {
    if (!identity.ok() || identity_) {  // a start has asked for it meanwhile
      return;
    }
    TakeIdentity(*std::move(identity));
    if (identity_->credentials || NeedsLookUp(config_.logs)) {
      OpenStreams();  // whose they are, should they have been made anew
    }
  });
}

void Instance::OpenStreams() {
  context_.descriptors.Force(descriptors_, DescriptorsFor(config_));
  for (const bool is_stderr : {false, true}) {
    if (!is_stderr || config_.logs.stderr_mode == StderrMode::kSeparate) {
      const LogStreamOptions options = StreamOptions(is_stderr);
      FindNamelessFifo(options.fifo_path);
      // The service has its own end.
      context_.logs.OpenAsync(is_stderr ? stderr_stream() : stdout_stream(), options,
                              [](const absl::StatusOr<UniqueFd>&) {});
      is_captured_ = true;
      captures_stderr_ = is_stderr;
    }
  }
}

// Where somebody removed the name of the FIFO that it writes to, one made anew would be another: it would write to
// nobody, and hang when that is full.
void Instance::FindNamelessFifo(const std::string& path) const {
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    if (child_ == nullptr || context_.held == nullptr) {
      return;
    }
    const std::string link = fmt::format("/proc/{}/fd/{}", child_->pid(), fd);
    std::array<char, PATH_MAX> target{};
    const ssize_t size = readlink(link.c_str(), target.data(), target.size());
    if (size < 0 || std::string_view(target.data(), static_cast<size_t>(size)) != path + " (deleted)") {  // proc(5)
      continue;
    }
    UniqueFd fifo(open(link.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat info {};
    if (fifo && fstat(fifo.get(), &info) == 0 && S_ISFIFO(info.st_mode)) {
      context_.held->PutNamelessFifo(path, std::move(fifo));
      return;
    }
  }
}

void Instance::ReportExit(pid_t reaped, WaitStatus status) {
  if (child_ != nullptr && child_->pid() == reaped) {
    child_->ReportExit(status);
  }
}

}  // namespace supervisor
