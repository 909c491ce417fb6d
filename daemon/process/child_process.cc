#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <memory>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/diag_log.h"
#include "common/errno_status.h"
#include "common/fail_point.h"
#include "daemon/loop/worker.h"
#include "daemon/process/launch.h"
#include "daemon/process/own_child.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/signal_refusal.h"
#include "daemon/process/spawn.h"

namespace supervisor {
namespace {

// How long after an adopted process has gone the guardian's report of its exit code is waited for.
constexpr absl::Duration kReportWait = absl::Milliseconds(500);
constexpr absl::Duration kReportPoll = absl::Milliseconds(5);

// Reaping costs the kernel most of what an end costs (what /proc had cached of the process goes then), and hundreds can
// end at once: it is done beside the loop, which has looked at the wait status before. Should the daemon die in
// between, the guardian inherits the zombie, and its exit code with it; so whoever keeps a record of ends takes this
// over and has it done when that is written.
Worker& Reaper() {
  static auto* const worker = new Worker();  // NOLINT(cppcoreguidelines-owning-memory): lives as long as the process
  return *worker;
}

// Linux's include/uapi/linux/pidfd.h, which Debian 12's headers are older than.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup_id;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;  // of wait(2)
};
constexpr uint64_t kPidfdInfoExit = 1 << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xff, 11, PidfdInfo);

std::optional<WaitStatus> ExitOfReaped(int pid_fd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (ioctl(pid_fd, kPidfdGetInfo, &info) != 0 || (info.mask & kPidfdInfoExit) == 0) {
    return std::nullopt;
  }
  return WaitStatus::FromRaw(info.exit_code);
}

absl::Status SendSignal(int pid_fd, pid_t pid, int signal) {
  if (syscall(SYS_pidfd_send_signal, pid_fd, signal, nullptr, 0) == 0) {
    return absl::OkStatus();
  }
  const int error = errno;
  const absl::Status status = ErrnoToStatus(error, fmt::format("signal to pid {}", pid));
  return error == ESRCH ? status : absl::Status(status.code(), DescribeRefusals(signal, {{pid, error}}));
}

// The child may still be reading its plan from our memory: the plan stays, for good.
void LeaveBehind(std::unique_ptr<Launch> launch) {
  static auto* const left = new std::vector<std::unique_ptr<Launch>>;
  left->push_back(std::move(launch));
}

class ChildProcessImpl final : public ChildProcess {
 public:
  ChildProcessImpl(Loop& loop, pid_t pid, UniqueFd pid_fd, uint64_t start_ticks, Observer observer)
      : loop_(loop),
        pid_(pid),
        pid_fd_(std::make_shared<UniqueFd>(std::move(pid_fd))),
        start_ticks_(start_ticks),
        claim_(std::make_shared<OwnChild>(pid)),
        observer_(std::move(observer)) {}

  ~ChildProcessImpl() override {
    if (launch_ != nullptr) {
      LeaveBehind(std::move(launch_));
    }
    if (is_zombie_) {
      TakeReaping()();
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
    pollfd ended{.fd = pid_fd_->get(), .events = POLLIN, .revents = 0};
    if (poll(&ended, 1, 0) == 0) {
      return;
    }
    reported_ = status;
    if (gone_) {
      Exited(status);
    }
  }

  std::function<void()> TakeReaping() override {
    if (!std::exchange(is_zombie_, false)) {
      return [] {};
    }
    return [fd = pid_fd_, claim = claim_] {
      Reaper().Post([fd, claim] {
        siginfo_t reaped{};
        waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(fd->get()), &reaped, WEXITED | WNOHANG);
        FailPoint(FailPointId::kExitReaped);
      });
    };
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
      if (const absl::Status killed = Signal(SIGKILL); !killed.ok() && !absl::IsNotFound(killed)) {
        LogError("what was started wrongly cannot be killed", {{"error", std::string(killed.message())}});
      }
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
      is_zombie_ = true;
      FailPoint(FailPointId::kExitSeen);
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
    report_until_ = MonotonicNow() + kReportWait;
    report_timer_ = loop_.NewTimer([this] { AskKernel(); });
    AskKernel();
  }

  // Where no guardian tells, the kernel itself does: of a zombie, and, once somebody has reaped it, as long as we hold
  // the pidfd (PIDFD_GET_INFO, Linux 6.15).
  void AskKernel() {
    if (const std::optional<int> zombie = ReadZombieStatus(pid_, start_ticks_)) {
      Exited(WaitStatus::FromRaw(*zombie));
    } else if (const std::optional<WaitStatus> status = ExitOfReaped(pid_fd_->get())) {
      Exited(*status);
    } else if (MonotonicNow() >= report_until_) {
      Exited(WaitStatus::Unknown());
    } else {
      report_timer_->ArmAfter(kReportPoll);
    }
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
  std::shared_ptr<OwnChild> claim_;  // with the reaper too: until then the exit may not be on record
  Observer observer_;
  std::unique_ptr<Launch> launch_;
  std::unique_ptr<Loop::Watch> exit_watch_;
  std::unique_ptr<Loop::Watch> report_watch_;
  std::unique_ptr<Loop::Timer> report_timer_;
  MonoTime report_until_;
  std::optional<WaitStatus> reported_;
  bool gone_ = false;
  bool is_zombie_ = false;  // ended, not reaped, and nobody has taken that over
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
  pollfd ended{.fd = pid_fd.get(), .events = POLLIN, .revents = 0};
  if (!stat && poll(&ended, 1, 0) == 0) {
    return absl::ResourceExhaustedError(fmt::format("pid {} runs, and /proc/{}/stat cannot be read", pid, pid));
  }
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
