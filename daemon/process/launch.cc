#include "daemon/process/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <ctime>

#include "common/clock.h"
#include "common/errno_status.h"
#include "common/signals_blocked.h"
#include "daemon/process/child_stacks.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/raw_calls.h"
#include "daemon/process/spawn_failure.h"

// glibc's own name for clone(2). The plain one is intercepted by ThreadSanitizer, whose wrapper takes the child for a
// fork's and does in our shared memory what only a copy of it would survive.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace supervisor {
namespace {

constexpr int kLastSignal = 64;

using Step = SpawnFailure::Step;

// What rt_sigaction(2) takes: the kernel's layout, not glibc's.
struct KernelSigaction {
  void* handler = nullptr;  // SIG_DFL
  unsigned long flags = 0;
  void* restorer = nullptr;
  unsigned long mask = 0;
};

struct Report {
  Step step;
  int error;
};

// Where a child says that it cannot become what it should.
struct FailurePath {
  int report_fd;
  BirthNote* birth;
};

// The few low descriptors through which a child is handed what it keeps. It starts in this process's descriptor table
// and at once takes a copy of that up to `end` alone (CLOSE_RANGE_UNSHARE, close_range(2)): with a thousand services
// this process holds thousands, which would otherwise be copied for each child, and closed again by its execve(2).
struct Doorway {
  int null = -1;
  int in = -1;
  int out = -1;
  int err = -1;
  int report = -1;
  int end = 0;
  bool shared_table = false;  // the kernel can unshare; else the child is cloned with a copy of the whole table
  int error = 0;              // errno: there is none
};

Doorway OpenDoorway() {
  Doorway door;
  door.null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int* fd : {&door.in, &door.out, &door.err, &door.report}) {
    *fd = door.null < 0 ? -1 : fcntl(door.null, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (*fd < 0) {
      door.error = errno;
      return door;
    }
    door.end = std::max(door.end, *fd + 1);
  }
  // A range in which nothing is open. Refused by Linux before 5.9, and by some containers' filters.
  door.shared_table = syscall(SYS_close_range, UINT_MAX, UINT_MAX, 0) == 0;
  return door;
}

const Doorway& TheDoorway() {
  static const Doorway door = OpenDoorway();
  return door;
}

std::vector<std::string> ExecCandidates(const SpawnRequest& request) {
  if (request.command.find('/') != std::string::npos) {
    return {request.command};
  }
  std::vector<std::string> candidates;
  const std::string path = SearchPathOf(request);
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    // An empty element would be the working directory: nobody means that.
    if (end > begin) {
      candidates.push_back(path.substr(begin, end - begin) + "/" + request.command);
    }
    begin = end + 1;
  }
  return candidates;
}

}  // namespace

struct Launch::Plan {
  Plan(SpawnRequest wanted, bool waits_for_exec)
      : request(std::move(wanted)), candidates(ExecCandidates(request)), waits(waits_for_exec) {
    argv.reserve(request.args.size() + 2);
    argv.push_back(request.command.data());
    for (std::string& argument : request.args) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    FlattenEnvironment();
    for (const std::string& candidate : candidates) {
      paths.push_back(candidate.c_str());
    }
    working_directory = request.working_directory.empty() ? "/" : request.working_directory.c_str();
    // Without the privilege setgroups(2) fails even where it would change nothing.
    set_groups = request.credentials && geteuid() == 0;
    stack = waits ? ChildStacks::Map() : ChildStacks::Get().Take();
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (waits) {
      ChildStacks::Unmap(stack);
    } else {
      ChildStacks::Get().GiveBack(stack);
    }
  }

  // One block for all of it: a daemon's environment times a thousand services is not little.
  void FlattenEnvironment() {
    size_t size = 0;
    for (const auto& [name, value] : request.environment) {
      size += name.size() + value.size() + 2;
    }
    environment.reserve(size);
    envp.reserve(request.environment.size() + 1);
    for (const auto& [name, value] : request.environment) {
      envp.push_back(environment.data() + environment.size());
      environment.append(name).append(1, '=').append(value).append(1, '\0');
    }
    envp.push_back(nullptr);
  }

  SpawnRequest request;
  std::vector<std::string> candidates;
  std::string environment;  // NAME=value, each with its NUL; reserved before envp points into it
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::vector<const char*> paths;
  std::string cgroup_procs;
  const char* working_directory = nullptr;
  bool set_groups = false;
  const bool waits;  // the thread that clones sleeps until execve(2), and is not that of the other children
  void* stack = nullptr;
  std::optional<Report> report;  // of a failure

  // As raw pointers and numbers, for the child must not call into instrumented code.
  struct {
    uint32_t alone;          // a futex(2): 1 when the child has a descriptor table of its own
    int unshare_from;        // 0: it was cloned with one
    uint64_t reset_signals;  // bit N-1: signal N
    int descriptors[3];
    FailurePath failure;
    const char* cgroup_procs;  // to be written to; null: it is where it is to be
    const SpawnRequest::Limit* limits;
    size_t limit_count;
    int nice;
    bool has_umask;
    mode_t umask;
    bool has_credentials;
    bool set_groups;
    uid_t uid;
    gid_t gid;
    const gid_t* groups;
    size_t group_count;
    bool no_new_privileges;
    const char* working_directory;
    const char* const* paths;
    size_t path_count;
    char* const* argv;
    char* const* envp;
  } raw{};

  void Freeze(const int (&descriptors)[3]);
  void MoveToCgroup();
  // The pid, or a negated error number. `how`: more flags of clone(2).
  long Clone(int how, int* pid_fd);
  static int Child(void* argument);
};

void Launch::Plan::Freeze(const int (&descriptors)[3]) {
  raw.reset_signals = ~uint64_t{0};
  std::copy(std::begin(descriptors), std::end(descriptors), raw.descriptors);
  raw.failure = {.report_fd = -1, .birth = request.birth};
  raw.limits = request.limits.data();
  raw.limit_count = request.limits.size();
  raw.nice = request.nice;
  raw.has_umask = request.umask.has_value();
  raw.umask = request.umask.value_or(0);
  raw.has_credentials = request.credentials.has_value();
  raw.set_groups = set_groups;
  if (request.credentials) {
    raw.uid = request.credentials->uid;
    raw.gid = request.credentials->gid;
    raw.groups = request.credentials->groups.data();
    raw.group_count = request.credentials->groups.size();
  }
  raw.no_new_privileges = request.no_new_privileges;
  raw.working_directory = working_directory;
  raw.paths = paths.data();
  raw.path_count = paths.size();
  raw.argv = argv.data();
  raw.envp = envp.data();
}

namespace {

// Those that this process ignores, by its own will or from birth; looked up once, for it never changes them.
uint64_t IgnoredSignals() {
  static const uint64_t ignored = [] {
    uint64_t set = 0;
    for (int signal = 1; signal <= kLastSignal; ++signal) {
      KernelSigaction action;
      if (RawCall(SYS_rt_sigaction, signal, 0, reinterpret_cast<long>(&action), sizeof(action.mask)) == 0 &&
          action.handler == reinterpret_cast<void*>(SIG_IGN)) {
        set |= uint64_t{1} << (signal - 1);
      }
    }
    return set;
  }();
  return ignored;
}

}  // namespace

long Launch::Plan::Clone(int how, int* pid_fd) {
  const int flags = CLONE_VM | CLONE_PIDFD | how;
  clone_args args{};
  args.flags = static_cast<uint64_t>(flags) | CLONE_CLEAR_SIGHAND;
  args.pidfd = reinterpret_cast<uint64_t>(pid_fd);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = ChildStacks::kSize;
  if (request.birth != nullptr) {
    args.flags |= CLONE_PARENT_SETTID;  // written before the child runs, whatever becomes of us meanwhile
    args.parent_tid = reinterpret_cast<uint64_t>(&request.birth->pid);
  }
  UniqueFd directory;
  if (request.born_in_cgroup && !request.cgroup.empty()) {
    // Born in its cgroup it needs no migration, for which the kernel makes everybody's fork and exit wait.
    directory.Reset(open(request.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(directory.get());
    raw.reset_signals = IgnoredSignals();
  } else {
    MoveToCgroup();
  }
  const SignalsBlocked blocked;  // so that no handler of ours runs in the child
  const long pid = directory || !request.born_in_cgroup ? RawClone3(&args, &Child, this) : -ENOENT;
  if (pid > 0 || pid == -EAGAIN || pid == -ENOMEM) {
    return pid;
  }
  // Linux before 5.7, a container's filter, or no such cgroup: moved there, or the child says why not. And the child
  // writes its pid itself.
  MoveToCgroup();
  raw.reset_signals = ~uint64_t{0};
  const int cloned = __clone(&Child, static_cast<char*>(stack) + ChildStacks::kSize, flags | SIGCHLD, this, pid_fd);
  return cloned < 0 ? -errno : cloned;
}

void Launch::Plan::MoveToCgroup() {
  if (!request.cgroup.empty()) {
    cgroup_procs = request.cgroup + "/cgroup.procs";
    raw.cgroup_procs = cgroup_procs.c_str();
  }
}

namespace {

[[noreturn]] SUPERVISOR_IN_CHILD void FailInChild(const FailurePath& path, Step step, long error) {
  const Report report{step, static_cast<int>(-error)};
  if (path.birth != nullptr) {
    path.birth->error = report.error;
    __atomic_store_n(&path.birth->failed_step, static_cast<int32_t>(step) + 1, __ATOMIC_RELEASE);
  }
  RawCall(SYS_write, path.report_fd, AsArgument(&report), sizeof(report));
  for (;;) {
    RawCall(SYS_exit_group, 127);
  }
}

// Handlers the kernel has dropped where it was asked to (CLONE_CLEAR_SIGHAND); then what is left are the ignored ones.
SUPERVISOR_IN_CHILD void ResetSignals(uint64_t which) {
  const KernelSigaction standard{};
  for (int signal = 1; signal <= kLastSignal; ++signal) {
    if ((which >> (signal - 1) & 1) != 0) {
      RawCall(SYS_rt_sigaction, signal, AsArgument(&standard), 0, sizeof(standard.mask));
    }
  }
}

SUPERVISOR_IN_CHILD long WriteFile(const char* path, const char* text, size_t size) {
  const long fd = RawCall(SYS_openat, AT_FDCWD, AsArgument(path), O_WRONLY | O_CLOEXEC);
  return fd < 0 ? fd : RawCall(SYS_write, fd, AsArgument(text), static_cast<long>(size));
}

}  // namespace

SUPERVISOR_IN_CHILD int Launch::Plan::Child(void* argument) {
  auto& plan = static_cast<Plan*>(argument)->raw;
  long result = 0;
  if (plan.failure.birth != nullptr) {
    __atomic_store_n(&plan.failure.birth->pid, static_cast<int32_t>(RawCall(SYS_getpid)), __ATOMIC_RELEASE);
  }
  if (plan.unshare_from > 0 &&
      (result = RawCall(SYS_close_range, plan.unshare_from, static_cast<long>(UINT_MAX), CLOSE_RANGE_UNSHARE)) < 0) {
    FailInChild(plan.failure, Step::kDescriptors, result);
  }
  __atomic_store_n(&plan.alone, 1, __ATOMIC_RELEASE);
  RawCall(SYS_futex, AsArgument(&plan.alone), FUTEX_WAKE_PRIVATE, 1);
  // Signals stay blocked until the handlers of this process, which the child has inherited, are gone.
  ResetSignals(plan.reset_signals);
  if ((result = RawCall(SYS_setsid)) < 0) {
    FailInChild(plan.failure, Step::kSession, result);
  }
  if (plan.cgroup_procs != nullptr && (result = WriteFile(plan.cgroup_procs, "0", 1)) < 0) {
    FailInChild(plan.failure, Step::kCgroup, result);
  }
  for (size_t i = 0; i < plan.limit_count; ++i) {
    if ((result = RawCall(SYS_prlimit64, 0, plan.limits[i].resource, AsArgument(&plan.limits[i].value), 0)) < 0) {
      FailInChild(plan.failure, Step::kLimits, result);
    }
  }
  if (plan.nice != 0 && (result = RawCall(SYS_setpriority, PRIO_PROCESS, 0, plan.nice)) < 0) {
    FailInChild(plan.failure, Step::kNice, result);
  }
  if (plan.has_umask) {
    RawCall(SYS_umask, static_cast<long>(plan.umask));
  }
  for (int i = 0; i < 3; ++i) {
    if ((result = RawCall(SYS_dup3, plan.descriptors[i], i, 0)) < 0) {
      FailInChild(plan.failure, Step::kDescriptors, result);
    }
  }
  // Kernels before 5.11 refuse; then what this process itself opened still has O_CLOEXEC.
  RawCall(SYS_close_range, 3, static_cast<long>(UINT_MAX), CLOSE_RANGE_CLOEXEC);
  if (plan.has_credentials) {
    if (plan.set_groups &&
        (result = RawCall(SYS_setgroups, static_cast<long>(plan.group_count), AsArgument(plan.groups))) < 0) {
      FailInChild(plan.failure, Step::kGroups, result);
    }
    const long gid = static_cast<long>(plan.gid);
    if ((result = RawCall(SYS_setresgid, gid, gid, gid)) < 0) {
      FailInChild(plan.failure, Step::kGroup, result);
    }
    const long uid = static_cast<long>(plan.uid);
    if ((result = RawCall(SYS_setresuid, uid, uid, uid)) < 0) {
      FailInChild(plan.failure, Step::kUser, result);
    }
  }
  if (plan.no_new_privileges && (result = RawCall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0)) < 0) {
    FailInChild(plan.failure, Step::kNoNewPrivileges, result);
  }
  if ((result = RawCall(SYS_chdir, AsArgument(plan.working_directory))) < 0) {
    FailInChild(plan.failure, Step::kWorkingDirectory, result);
  }
  const unsigned long no_signals = 0;
  RawCall(SYS_rt_sigprocmask, SIG_SETMASK, AsArgument(&no_signals), 0, sizeof(no_signals));
  long failure = -ENOENT;
  for (size_t i = 0; i < plan.path_count; ++i) {
    result = RawCall(SYS_execve, AsArgument(plan.paths[i]), AsArgument(plan.argv), AsArgument(plan.envp));
    if (result == -ENOENT || result == -ENOTDIR) {
      continue;  // as execvp(3): the next directory may have it
    }
    failure = result;
    if (result != -EACCES) {
      break;
    }
  }
  FailInChild(plan.failure, Step::kExec, failure);
}

namespace {

// dup3(2) onto an open descriptor allocates nothing, so it does not fail.
void FillDoorway(const Doorway& door, const SpawnRequest& request, int report_fd) {
  const auto place = [&door](int source, int slot) { dup3(source >= 0 ? source : door.null, slot, O_CLOEXEC); };
  place(request.stdin_fd, door.in);
  place(request.stdout_fd, door.out);
  place(request.stderr_fd, door.err);
  place(report_fd, door.report);
}

void EmptyDoorway(const Doorway& door) {
  for (const int slot : {door.in, door.out, door.err, door.report}) {
    dup3(door.null, slot, O_CLOEXEC);
  }
}

// Until the child has a descriptor table of its own: its first system call, so this takes as long as it takes to be
// scheduled. A child that was killed before that never says so; then its pidfd does. One that is not scheduled at all
// (its cgroup is frozen) must not hold up everybody: it is killed. One that could run and waits for a processor is
// given longer: where all are busy, a start that fails helps nobody. False: it is gone.
bool AwaitAlone(uint32_t* alone, pid_t pid, int pid_fd) {
  constexpr timespec kLook = {.tv_sec = 0, .tv_nsec = 20'000'000};
  constexpr int kPatience = 15;                // looks
  constexpr int kPatienceForAProcessor = 100;  // looks
  int patience = kPatience;
  for (int look = 0; __atomic_load_n(alone, __ATOMIC_ACQUIRE) == 0;) {
    if (syscall(SYS_futex, alone, FUTEX_WAIT_PRIVATE, 0, &kLook) == 0 || errno != ETIMEDOUT) {
      continue;
    }
    siginfo_t info{};
    if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pid_fd), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid != 0) {
      return __atomic_load_n(alone, __ATOMIC_ACQUIRE) != 0;
    }
    if (++look != patience) {
      continue;
    }
    const std::optional<ProcStat> stat = ReadProcStat(pid);
    if (patience == kPatience && stat && stat->state == 'R') {
      patience = kPatienceForAProcessor;
    } else {
      syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, nullptr, 0);
    }
  }
  return true;
}

}  // namespace

Launch::Launch(std::unique_ptr<Plan> plan) : plan_(std::move(plan)) {}
Launch::~Launch() = default;

absl::StatusOr<std::unique_ptr<Launch>> Launch::Start(SpawnRequest request) {
  std::unique_ptr<Launch> launch(new Launch(std::make_unique<Plan>(std::move(request), false)));
  Plan& plan = *launch->plan_;
  if (plan.stack == nullptr) {
    return ErrnoToStatus(ENOMEM, "stack for a new process");
  }
  const Doorway& door = TheDoorway();
  if (door.error != 0) {
    return ErrnoToStatus(door.error, "descriptors for new processes");
  }
  int report[2];
  if (pipe2(report, O_CLOEXEC | O_NONBLOCK) != 0) {
    return ErrnoToStatus(errno, "pipe for a new process");
  }
  launch->report_fd_.Reset(report[0]);
  const UniqueFd report_write_fd(report[1]);
  FillDoorway(door, plan.request, report_write_fd.get());
  plan.Freeze({door.in, door.out, door.err});
  plan.raw.unshare_from = door.shared_table ? door.end : 0;
  plan.raw.failure.report_fd = door.report;

  int pid_fd = -1;
  const uint64_t ticks_before = ClockTicks(SinceBoot());
  const long pid = plan.Clone(door.shared_table ? CLONE_FILES : 0, &pid_fd);
  const uint64_t ticks_after = ClockTicks(SinceBoot());
  const bool is_alone = pid > 0 && AwaitAlone(&plan.raw.alone, static_cast<pid_t>(pid), pid_fd);
  EmptyDoorway(door);
  if (pid < 0) {
    return ErrnoToStatus(static_cast<int>(-pid), "clone");
  }
  launch->pid_ = static_cast<pid_t>(pid);
  launch->pid_fd_.Reset(pid_fd);
  if (!is_alone) {
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED);
    return absl::UnavailableError(
        "the new process did not get to run in time "
        "(is its cgroup frozen, or out of its CPU quota, or are all processors too busy?)");
  }
  // It was born between the two looks at the clock: mostly they agree. A look into /proc costs more, then and when the
  // process ends, and waits where it is in the midst of its execve(2).
  if (ticks_before == ticks_after) {
    launch->start_ticks_ = ticks_before;
  } else if (const std::optional<ProcStat> stat = ReadProcStat(launch->pid_)) {
    launch->start_ticks_ = stat->start_ticks;
  }
  return launch;
}

SpawnedChild Launch::Run(SpawnRequest request) {
  BirthNote note{};
  request.birth = &note;
  Plan plan(std::move(request), true);
  if (plan.stack == nullptr) {
    return {.failure = DescribeFailure(Step::kClone, ENOMEM, plan.request), .pid = -1, .pid_fd = {}};
  }
  int descriptors[3] = {plan.request.stdin_fd, plan.request.stdout_fd, plan.request.stderr_fd};
  UniqueFd moved[3];
  for (size_t i = 0; i < std::size(descriptors); ++i) {
    if (descriptors[i] <= STDERR_FILENO) {  // this process was started without these: they would be overwritten
      moved[i].Reset(fcntl(descriptors[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
      descriptors[i] = moved[i].get();
    }
  }
  // The child has a copy of the whole table: it may sleep in a dead file system, and nobody else is to see that.
  plan.Freeze(descriptors);
  int pid_fd = -1;
  const long pid = plan.Clone(CLONE_VFORK, &pid_fd);
  if (pid < 0) {
    return {.failure = DescribeFailure(Step::kClone, static_cast<int>(-pid), plan.request), .pid = -1, .pid_fd = {}};
  }
  SpawnedChild child{.failure = {}, .pid = static_cast<pid_t>(pid), .pid_fd = UniqueFd(pid_fd)};
  if (const int32_t failed = __atomic_load_n(&note.failed_step, __ATOMIC_ACQUIRE); failed != 0) {
    siginfo_t info{};
    waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pid_fd), &info, WEXITED);
    child.failure = DescribeFailure(static_cast<Step>(failed - 1), note.error, plan.request);
  }
  return child;
}

absl::Status Launch::Prepare() {
  const Doorway& door = TheDoorway();
  return door.error == 0 ? absl::OkStatus() : ErrnoToStatus(door.error, "descriptors for new processes");
}

// From here, when it has a memory of its own: for all who share one the kernel sets one score (proc(5)), and the child
// shares ours until it execs.
Launch::Result Launch::SetOomScore() const {
  const std::optional<int> score = plan_->request.oom_score_adj;
  if (!score) {
    return {};
  }
  const std::string text = fmt::format("{}", *score);
  const UniqueFd fd(open(fmt::format("/proc/{}/oom_score_adj", pid_).c_str(), O_WRONLY | O_CLOEXEC));
  // Who has ended already needs none.
  if ((fd && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) || errno == ESRCH ||
      errno == ENOENT) {
    return {};
  }
  return {.failure = SpawnFailure{.step = Step::kOomScore,
                                  .error = errno,
                                  .what = fmt::format("resource_limits.oom_score_adj {}", *score)},
          .must_kill = true};
}

std::optional<Launch::Result> Launch::Finished() {
  // Not before the pipe ends: until then the child still runs on our memory, be it only to end.
  Report read_now{};
  ssize_t got = 0;
  while ((got = read(report_fd_.get(), &read_now, sizeof(read_now))) == static_cast<ssize_t>(sizeof(read_now))) {
    plan_->report = read_now;
  }
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return std::nullopt;
  }
  if (!plan_->report) {
    return SetOomScore();
  }
  return Result{DescribeFailure(plan_->report->step, plan_->report->error, plan_->request)};
}

}  // namespace supervisor
