#include "daemon/process/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "common/errno_status.h"

// The child runs in memory that other threads use at the same time: no sanitizer may instrument it.
#define SUPERVISOR_IN_CHILD \
  __attribute__((no_sanitize("address", "thread", "undefined"), optimize("no-stack-protector")))

// glibc's own name for clone(2). The plain one is intercepted by ThreadSanitizer, whose wrapper takes the child for a
// fork's and does in our shared memory what only a copy of it would survive.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace supervisor {
namespace {

constexpr size_t kStackSize = 65536;
constexpr int kLastSignal = 64;
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

using Step = SpawnFailure::Step;

// A system call that does not touch errno. Returns the kernel's value: a negated error number on failure.
SUPERVISOR_IN_CHILD inline long RawCall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
#if defined(__x86_64__)
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
#else
#error "RawCall: this architecture's system call instruction is missing"
#endif
}

template <typename Pointer>
SUPERVISOR_IN_CHILD inline long AsArgument(const Pointer* pointer) {
  return reinterpret_cast<long>(pointer);
}

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

std::string PathOf(const SpawnRequest& request) {
  for (const auto& [name, value] : request.environment) {
    if (name == "PATH" && !value.empty()) {
      return value;
    }
  }
  return kDefaultPath;
}

std::vector<std::string> ExecCandidates(const SpawnRequest& request) {
  if (request.command.find('/') != std::string::npos) {
    return {request.command};
  }
  std::vector<std::string> candidates;
  const std::string path = PathOf(request);
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
  explicit Plan(const SpawnRequest& wanted) : request(wanted), candidates(ExecCandidates(wanted)) {
    arguments.push_back(request.command);
    arguments.insert(arguments.end(), request.args.begin(), request.args.end());
    for (const auto& [name, value] : request.environment) {
      environment.push_back(fmt::format("{}={}", name, value));
    }
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    for (std::string& variable : environment) {
      envp.push_back(variable.data());
    }
    envp.push_back(nullptr);
    for (const std::string& candidate : candidates) {
      paths.push_back(candidate.c_str());
    }
    if (request.oom_score_adj) {
      oom_score = fmt::format("{}", *request.oom_score_adj);
    }
    working_directory = request.working_directory.empty() ? "/" : request.working_directory.c_str();
    // Without the privilege setgroups(2) fails even where it would change nothing.
    set_groups = request.credentials && geteuid() == 0;
    stack = mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE,
                 -1, 0);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (stack != MAP_FAILED) {
      munmap(stack, kStackSize);
    }
  }

  SpawnRequest request;
  std::vector<std::string> candidates;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::vector<const char*> paths;
  std::string oom_score;
  const char* working_directory = nullptr;
  bool set_groups = false;
  UniqueFd null_fd;
  UniqueFd report_write_fd;
  void* stack = MAP_FAILED;

  // As raw pointers and numbers, for the child must not call into instrumented code.
  struct {
    int descriptors[3];
    int report_fd;
    int cgroup_procs_fd;
    const char* oom_score;
    size_t oom_score_size;
    const SpawnRequest::Limit* limits;
    size_t limit_count;
    int nice;
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

  void Freeze();
  static int Child(void* argument);
};

void Launch::Plan::Freeze() {
  const int sources[3] = {request.stdin_fd, request.stdout_fd, request.stderr_fd};
  for (int i = 0; i < 3; ++i) {
    raw.descriptors[i] = sources[i] >= 0 ? sources[i] : null_fd.get();
  }
  raw.report_fd = report_write_fd.get();
  raw.cgroup_procs_fd = request.cgroup_procs_fd;
  raw.oom_score = request.oom_score_adj ? oom_score.c_str() : nullptr;
  raw.oom_score_size = oom_score.size();
  raw.limits = request.limits.data();
  raw.limit_count = request.limits.size();
  raw.nice = request.nice;
  raw.umask = request.umask;
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

[[noreturn]] SUPERVISOR_IN_CHILD void FailInChild(int report_fd, Step step, long error) {
  const Report report{step, static_cast<int>(-error)};
  RawCall(SYS_write, report_fd, AsArgument(&report), sizeof(report));
  for (;;) {
    RawCall(SYS_exit_group, 127);
  }
}

SUPERVISOR_IN_CHILD void ResetSignals() {
  const KernelSigaction standard{};
  for (int signal = 1; signal <= kLastSignal; ++signal) {
    RawCall(SYS_rt_sigaction, signal, AsArgument(&standard), 0, sizeof(standard.mask));
  }
}

SUPERVISOR_IN_CHILD long WriteOomScore(const char* text, size_t size) {
  const long fd = RawCall(SYS_openat, AT_FDCWD, AsArgument("/proc/self/oom_score_adj"), O_WRONLY | O_CLOEXEC);
  return fd < 0 ? fd : RawCall(SYS_write, fd, AsArgument(text), static_cast<long>(size));
}

}  // namespace

SUPERVISOR_IN_CHILD int Launch::Plan::Child(void* argument) {
  const auto& plan = static_cast<const Plan*>(argument)->raw;
  long result = 0;
  // Signals stay blocked until the handlers of this process, which the child has inherited, are gone.
  ResetSignals();
  if ((result = RawCall(SYS_setsid)) < 0) {
    FailInChild(plan.report_fd, Step::kSession, result);
  }
  if (plan.cgroup_procs_fd >= 0 && (result = RawCall(SYS_write, plan.cgroup_procs_fd, AsArgument("0"), 1)) < 0) {
    FailInChild(plan.report_fd, Step::kCgroup, result);
  }
  if (plan.oom_score != nullptr && (result = WriteOomScore(plan.oom_score, plan.oom_score_size)) < 0) {
    FailInChild(plan.report_fd, Step::kOomScore, result);
  }
  for (size_t i = 0; i < plan.limit_count; ++i) {
    if ((result = RawCall(SYS_prlimit64, 0, plan.limits[i].resource, AsArgument(&plan.limits[i].value), 0)) < 0) {
      FailInChild(plan.report_fd, Step::kLimits, result);
    }
  }
  if (plan.nice != 0 && (result = RawCall(SYS_setpriority, PRIO_PROCESS, 0, plan.nice)) < 0) {
    FailInChild(plan.report_fd, Step::kNice, result);
  }
  RawCall(SYS_umask, static_cast<long>(plan.umask));
  for (int i = 0; i < 3; ++i) {
    if ((result = RawCall(SYS_dup3, plan.descriptors[i], i, 0)) < 0) {
      FailInChild(plan.report_fd, Step::kDescriptors, result);
    }
  }
  // Kernels before 5.11 refuse; then what this process itself opened still has O_CLOEXEC.
  RawCall(SYS_close_range, 3, static_cast<long>(UINT_MAX), CLOSE_RANGE_CLOEXEC);
  if (plan.has_credentials) {
    if (plan.set_groups &&
        (result = RawCall(SYS_setgroups, static_cast<long>(plan.group_count), AsArgument(plan.groups))) < 0) {
      FailInChild(plan.report_fd, Step::kGroups, result);
    }
    const long gid = static_cast<long>(plan.gid);
    if ((result = RawCall(SYS_setresgid, gid, gid, gid)) < 0) {
      FailInChild(plan.report_fd, Step::kGroup, result);
    }
    const long uid = static_cast<long>(plan.uid);
    if ((result = RawCall(SYS_setresuid, uid, uid, uid)) < 0) {
      FailInChild(plan.report_fd, Step::kUser, result);
    }
  }
  if (plan.no_new_privileges && (result = RawCall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0)) < 0) {
    FailInChild(plan.report_fd, Step::kNoNewPrivileges, result);
  }
  if ((result = RawCall(SYS_chdir, AsArgument(plan.working_directory))) < 0) {
    FailInChild(plan.report_fd, Step::kWorkingDirectory, result);
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
  FailInChild(plan.report_fd, Step::kExec, failure);
}

Launch::Launch(std::unique_ptr<Plan> plan) : plan_(std::move(plan)) {}
Launch::~Launch() = default;

absl::StatusOr<std::unique_ptr<Launch>> Launch::Start(const SpawnRequest& request) {
  std::unique_ptr<Launch> launch(new Launch(std::make_unique<Plan>(request)));
  Plan& plan = *launch->plan_;
  if (plan.stack == MAP_FAILED) {
    return ErrnoToStatus(ENOMEM, "stack for a new process");
  }
  int report[2];
  if (pipe2(report, O_CLOEXEC | O_NONBLOCK) != 0) {
    return ErrnoToStatus(errno, "pipe for a new process");
  }
  launch->report_fd_.Reset(report[0]);
  plan.report_write_fd.Reset(report[1]);
  plan.null_fd.Reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!plan.null_fd) {
    return ErrnoToStatus(errno, "/dev/null");
  }
  plan.Freeze();

  // All signals are blocked over the clone, so that no handler of ours runs in the child.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int pid_fd = -1;
  char* const stack_top = static_cast<char*>(plan.stack) + kStackSize;
  const int pid = __clone(&Plan::Child, stack_top, CLONE_VM | CLONE_PIDFD | SIGCHLD, &plan, &pid_fd);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  plan.report_write_fd.Reset();
  if (pid < 0) {
    return ErrnoToStatus(error, "clone");
  }
  launch->pid_ = pid;
  launch->pid_fd_.Reset(pid_fd);
  return launch;
}

std::optional<Launch::Result> Launch::Finished() {
  Report report{};
  const ssize_t got = read(report_fd_.get(), &report, sizeof(report));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return std::nullopt;
  }
  if (got != static_cast<ssize_t>(sizeof(report))) {
    return Result{};
  }
  const SpawnRequest& request = plan_->request;
  std::string what;
  switch (report.step) {
    case Step::kClone:
      what = "clone";
      break;
    case Step::kSession:
      what = "setsid";
      break;
    case Step::kCgroup:
      what = "cgroup";
      break;
    case Step::kOomScore:
      what = fmt::format("resource_limits.oom_score_adj {}", request.oom_score_adj.value_or(0));
      break;
    case Step::kLimits:
      what = "resource_limits";
      break;
    case Step::kNice:
      what = fmt::format("resource_limits.nice {}", request.nice);
      break;
    case Step::kDescriptors:
      what = "stdin, stdout and stderr";
      break;
    case Step::kGroups:
      what = fmt::format("supplementary groups of user {}", request.credentials->user);
      break;
    case Step::kGroup:
      what = fmt::format("group {}", request.credentials->gid);
      break;
    case Step::kUser:
      what = fmt::format("user {}", request.credentials->user);
      break;
    case Step::kNoNewPrivileges:
      what = "no_new_privileges";
      break;
    case Step::kWorkingDirectory:
      what = fmt::format("working_directory {}", plan_->working_directory);
      break;
    case Step::kExec:
      what = fmt::format("command {}", request.command);
      if (report.error == ENOENT && request.command.find('/') == std::string::npos) {
        what += fmt::format(" (looked for in {})", PathOf(request));
      } else if (report.error == ENOENT && access(request.command.c_str(), F_OK) == 0) {
        what += " (the file exists: its interpreter, named in its first line, does not)";
      }
      break;
  }
  return Result{SpawnFailure{.step = report.step, .error = report.error, .what = std::move(what)}};
}

std::string SpawnFailure::ToString() const { return fmt::format("{}: {}", what, ErrnoText(error)); }

}  // namespace supervisor
