#include <fmt/format.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <memory>
#include <utility>

#include "common/errno_status.h"
#include "daemon/loop/worker.h"
#include "daemon/process/launch.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/spawn.h"

namespace supervisor {
namespace {

// How long after an adopted process has gone the guardian's report of its exit code is waited for.
constexpr absl::Duration kReportWait = absl::Milliseconds(500);

// Reaping costs the kernel most of what an end costs (what /proc had cached of the process goes then), and hundreds can
// end at once: it is done beside the loop, which has looked at the wait status before. Should the daemon die in
// between, the guardian inherits the zombie, and its exit code with it.
Worker& Reaper() {
  static auto* const worker = new Worker();  // NOLINT(cppcoreguidelines-owning-memory): lives as long as the process
  return *worker;
}

absl::Status SendSignal(int pid_fd, pid_t pid, int signal) {
  if (syscall(SYS_pidfd_send_signal, pid_fd, signal, nullptr, 0) != 0) {
    return ErrnoToStatus(errno, fmt::format("signal to pid {}", pid));
  }
  return absl::OkStatus();
}

class ChildProcessImpl final : public ChildProcess {
 public:
  ChildProcessImpl(Loop& loop, pid_t pid, UniqueFd pid_fd, uint64_t start_ticks, Observer observer)
      : loop_(loop),
        pid_(pid),
        pid_fd_(std::make_shared<UniqueFd>(std::move(pid_fd))),
        start_ticks_(start_ticks),
        observer_(std::move(observer)) {}

  ~ChildProcessImpl() override {
    if (launch_ != nullptr) {
      // The child may still be reading its plan from our memory: the plan stays behind.
      static_cast<void>(launch_.release());
    }
  }
  ChildProcessImpl(const ChildProcessImpl&) = delete;
  ChildProcessImpl& operator=(const ChildProcessImpl&) = delete;

  absl::Status Watch(std::unique_ptr<Launch> launch) {
    launch_ = std::move(launch);
    exit_watch_ = loop_.WatchFd(pid_fd_->get(), Loop::Interest::kRead, [this](Loop::Ready) { OnPidFd(); });
    if (launch_ != nullptr) {
      report_watch_ = loop_.WatchFd(launch_->report_fd(), Loop::Interest::kRead, [this](Loop::Ready) { OnReport(); });
    }
    if (exit_watch_ == nullptr || (launch_ != nullptr && report_watch_ == nullptr)) {
      return absl::ResourceExhaustedError(fmt::format("pid {}: cannot be watched (no memory for epoll)", pid_));
    }
    return absl::OkStatus();
  }

  pid_t pid() const override { return pid_; }
  uint64_t start_ticks() const override { return start_ticks_; }
  absl::Status Signal(int signal) override { return SendSignal(pid_fd_->get(), pid_, signal); }

  void ReportExit(WaitStatus status) override {
    reported_ = status;
    if (gone_) {
      Exited(status);
    }
  }

 private:
  void OnReport() {
    const std::optional<Launch::Result> result = launch_->Finished();
    if (!result) {
      return;
    }
    report_watch_.reset();
    launch_.reset();
    if (result->must_kill) {
      static_cast<void>(Signal(SIGKILL));
    }
    observer_.on_started(result->failure);
  }

  void OnPidFd() {
    if (launch_ != nullptr) {
      OnReport();  // the process is gone, so its report is complete: told first
    }
    siginfo_t info{};
    if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pid_fd_->get()), &info, WEXITED | WNOHANG | WNOWAIT) ==
        0) {
      if (info.si_pid == 0) {
        return;
      }
      exit_watch_.reset();
      Reaper().Post([fd = pid_fd_] {
        siginfo_t reaped{};
        waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(fd->get()), &reaped, WEXITED | WNOHANG);
      });
      Exited(info.si_code == CLD_EXITED ? WaitStatus::Exited(info.si_status)
                                        : WaitStatus::Signaled(info.si_status, info.si_code == CLD_DUMPED));
      return;
    }
    // Not our child: an earlier daemon's, which the guardian has reaped or will.
    exit_watch_.reset();
    gone_ = true;
    if (reported_) {
      Exited(*reported_);
      return;
    }
    report_timer_ = loop_.NewTimer([this] { Exited(WaitStatus::Unknown()); });
    report_timer_->ArmAfter(kReportWait);
  }

  void Exited(WaitStatus status) {
    gone_ = false;
    report_timer_.reset();
    const auto on_exit = std::exchange(observer_.on_exit, nullptr);
    if (on_exit) {
      on_exit(status);  // may destroy this
    }
  }

  Loop& loop_;
  pid_t pid_;
  std::shared_ptr<UniqueFd> pid_fd_;  // with the reaper, while that has it
  uint64_t start_ticks_;
  Observer observer_;
  std::unique_ptr<Launch> launch_;
  std::unique_ptr<Loop::Watch> exit_watch_;
  std::unique_ptr<Loop::Watch> report_watch_;
  std::unique_ptr<Loop::Timer> report_timer_;
  std::optional<WaitStatus> reported_;
  bool gone_ = false;
};

}  // namespace

absl::Status ChildProcess::Prepare() { return Launch::Prepare(); }

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Spawn(Loop& loop, SpawnRequest request, Observer observer) {
  absl::StatusOr<std::unique_ptr<Launch>> launch = Launch::Start(std::move(request));
  if (!launch.ok()) {
    return launch.status();
  }
  const pid_t pid = (*launch)->pid();
  auto child = std::make_unique<ChildProcessImpl>(loop, pid, (*launch)->TakePidFd(), (*launch)->start_ticks(),
                                                  std::move(observer));
  if (absl::Status status = child->Watch(*std::move(launch)); !status.ok()) {
    // A child that nobody watches must not be: it is killed and reaped here and now.
    static_cast<void>(child->Signal(SIGKILL));
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED);
    return status;
  }
  return child;
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Adopt(Loop& loop, pid_t pid, uint64_t start_ticks,
                                                                  Observer observer) {
  UniqueFd pid_fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pid_fd) {
    return ErrnoToStatus(errno, fmt::format("pid {}", pid));
  }
  // The pidfd is held, so the start time read now is that of the process it stands for, or of none.
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  if (!stat || stat->start_ticks != start_ticks) {
    return absl::NotFoundError(fmt::format("pid {} is another process now", pid));
  }
  auto child = std::make_unique<ChildProcessImpl>(loop, pid, std::move(pid_fd), start_ticks, std::move(observer));
  if (absl::Status status = child->Watch(nullptr); !status.ok()) {
    return status;
  }
  return child;
}

}  // namespace supervisor
