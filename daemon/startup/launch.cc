#include "daemon/startup/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <climits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/console.h"
#include "common/errno_status.h"
#include "common/paths.h"
#include "daemon/config/config_file.h"
#include "daemon/config/load.h"
#include "daemon/guardian/guardian.h"
#include "daemon/guardian/keeper.h"
#include "daemon/process/held_descriptors.h"
#include "daemon/startup/config_errors.h"
#include "daemon/startup/config_in_force.h"
#include "daemon/startup/daemon_process.h"
#include "daemon/startup/internal_arguments.h"
#include "daemon/startup/lock.h"
#include "daemon/startup/runtime_place.h"
#include "daemon/startup/upgrade.h"

namespace supervisor {
namespace {

// The last of us tidies up, also after a start that failed.
void RemoveFiles(const RuntimePaths& paths) {
  unlink(paths.pid_file.c_str());
  unlink(paths.applied_config.c_str());
  unlink(paths.lock_file.c_str());
}

// To the caller: its terminal, or the process that waits for a start in the background.
int Fail(const std::string& what, int started_fd = -1) {
  if (started_fd < 0 || WriteFully(started_fd, what) != 0) {
    PrintError(fmt::format("supervisord: {}\n", what));
  }
  return 1;
}

// In the background: the caller's process waits here until the daemon serves, or says why it does not.
int WaitForStart(int started_fd, pid_t child) {
  std::string text;
  char buffer[512];
  // The guardian keeps its end of the pipe, so there is no end of file after a start that went well.
  for (ssize_t got = 0;
       text != "ok" && ((got = read(started_fd, buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR));) {
    text.append(buffer, got > 0 ? static_cast<size_t>(got) : 0);
  }
  if (text == "ok") {
    return 0;
  }
  int status = 0;
  waitpid(child, &status, 0);
  PrintError(fmt::format("supervisord: {}\n", text.empty() ? "the daemon ended before it served" : text));
  return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
}

// The child's side: no terminal, and nothing that keeps one busy.
void DetachFromTerminal() {
  setsid();
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));  // above 2: those three are open
  for (int fd = 0; fd <= 2; ++fd) {
    dup2(null.get(), fd);
  }
  if (chdir("/") != 0) {
    return;  // "/" can always be entered
  }
}

// For descriptors to outlive the daemon, and guardian and daemon both. An older program may have made neither place;
// without them nothing is held, and that is all.
void HoldDescriptors(DaemonOptions& options, const RuntimePaths& paths) {
  if (options.held_send_fd < 0) {
    std::tie(options.held_send_fd, options.held_receive_fd) = HeldDescriptors::MakePair();
  }
  if (options.keeper_fd < 0) {
    const Keeper keeper = StartKeeper(options.held_send_fd, options.held_receive_fd, paths.lock_file);
    options.keeper_fd = keeper.fd;
    options.keeper_pid = keeper.pid;
  }
}

// The daemon, in a guardian's place: orphans come to it, and it tidies up. What it holds for its services is there for
// the program that an upgrade puts into this process.
int RunWithoutGuardian(const DaemonOptions& given, const RuntimePaths& paths) {
  DaemonOptions options = given;
  HoldDescriptors(options, paths);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const int exit_code = RunDaemonProcess(options);
  ReleaseKeeper(options.keeper_fd);
  RemoveFiles(paths);
  return exit_code;
}

}  // namespace

int LaunchSupervisor(const DaemonOptions& given) {
  const bool is_stream = InheritedDescriptor(given.config_file).has_value();
  std::optional<LoadedConfig> loaded;
  if (is_stream) {
    loaded = LoadConfig(given.config_file, LoadOptionsFor(given));  // as long as its descriptor is open
  }
  if (given.background) {
    // Whatever the caller has open: a lock of its own, the writing end of a pipe that somebody reads to its end.
    syscall(SYS_close_range, 3, ~0U, 0);
  }
  // In the foreground the daemon itself tells what is wrong with the configuration: to read all of it twice would cost
  // a large one's start some time. Where the socket is not named plainly, only all of it tells.
  std::optional<std::string> socket =
      given.background || is_stream ? std::nullopt : LoadSocketPath(given.config_file, LoadOptionsFor(given));
  if (!socket) {
    if (!loaded) {
      loaded = LoadConfig(given.config_file, LoadOptionsFor(given));
    }
    if (!loaded->config) {
      PrintNotStarted(loaded->errors);
      return 2;
    }
    socket = std::move(loaded->config->global.socket);
  }
  const RuntimePaths paths = GetRuntimePaths(*socket);
  absl::StatusOr<UniqueFd> lock = AcquireLock(paths, given.trust_files);
  if (!lock.ok()) {
    return Fail(std::string(lock.status().message()));
  }
  // What an earlier supervisor had in force is not what this one is asked for.
  unlink(paths.applied_config.c_str());
  if (is_stream) {
    absl::Status status = RuntimePlace(paths, -1, given.trust_files).MakeDirectories();
    if (status.ok()) {
      status = KeepForDaemon(paths, loaded->texts);
    }
    if (!status.ok()) {
      return Fail(std::string(status.message()));
    }
  }
  DaemonOptions options = given;
  options.lock_fd = lock->get();
  options.supervisor_started_unix_ms = absl::ToUnixMillis(WallNow());
  if (options.background) {
    int started[2];
    if (pipe2(started, O_CLOEXEC) != 0) {
      return Fail(ErrnoText(errno));
    }
    const UniqueFd read_end(started[0]);
    UniqueFd write_end(started[1]);
    const pid_t child = fork();  // one thread yet, and nothing to lose
    if (child < 0) {
      return Fail(fmt::format("fork: {}", ErrnoText(errno)));
    }
    if (child > 0) {
      write_end.Reset();
      return WaitForStart(read_end.get(), child);
    }
    DetachFromTerminal();
    options.started_fd = write_end.Release();
  }
  if (const absl::Status status = WriteFileAtomically(paths.pid_file, fmt::format("{}\n", getpid()), 0644);
      !status.ok()) {
    RemoveFiles(paths);
    return Fail(std::string(status.message()), options.started_fd);
  }
  options.socket = paths.socket;
  // Without a guardian too: the arguments say which socket it serves to those who look for it (find_daemon.h).
  std::vector<std::string> arguments =
      InternalArguments(options.no_guardian ? "--internal-daemon" : "--internal-guardian", options);
  if (options.no_guardian) {
    arguments.emplace_back("--no-guardian");
  }
  KeepOverExec(options.lock_fd);
  if (options.started_fd >= 0) {
    KeepOverExec(options.started_fd);
  }
  const std::string program = OwnProgram();
  const std::vector<char*> argv = AsArgv(arguments);
  execv(program.c_str(), argv.data());
  const int error = errno;
  execv("/proc/self/exe", argv.data());  // it was removed since this process began
  RemoveFiles(paths);
  return Fail(fmt::format("{}: {}", program, ErrnoText(error)), options.started_fd);
}

namespace {

// ps(1) shows the name of what was exec'd: "exe" or a number for a program that has no path any more.
void NameProcess() { prctl(PR_SET_NAME, "supervisord"); }

// What every daemon and the next guardian inherit: the pipe for exit codes and the eventfd of readiness.
bool OpenGuardianDescriptors(DaemonOptions& options) {
  if (options.reaped_write_fd >= 0) {
    return true;  // it takes the place of another
  }
  int reaped[2];
  options.ready_fd = eventfd(0, EFD_NONBLOCK);  // style-ok(cloexec): every daemon inherits it
  // Not close-on-exec: every daemon inherits them. Large, for exit codes wait in it while no daemon is there.
  if (options.ready_fd < 0 || pipe2(reaped, O_NONBLOCK) != 0) {
    return false;
  }
  options.reaped_read_fd = reaped[0];
  options.reaped_write_fd = reaped[1];
  constexpr int kPipeSize = 1 << 20;
  fcntl(reaped[1], F_SETPIPE_SZ, kPipeSize);
  return true;
}

}  // namespace

int RunAsDaemon(const DaemonOptions& options) {
  NameProcess();
  return options.no_guardian ? RunWithoutGuardian(options, GetRuntimePaths(options.socket)) : RunDaemonProcess(options);
}

int RunAsGuardian(const DaemonOptions& given) {
  NameProcess();
  DaemonOptions options = given;
  bool has_served = options.reaped_write_fd >= 0;
  const RuntimePaths paths = GetRuntimePaths(options.socket);
  if (!OpenGuardianDescriptors(options)) {
    return Fail(fmt::format("the guardian's descriptors: {}", ErrnoText(errno)), options.started_fd);
  }
  HoldDescriptors(options, paths);
  std::vector<std::string> for_daemon = InternalArguments("--internal-daemon", options);
  for_daemon.push_back(fmt::format("--internal-guardian-pid={}", getpid()));
  std::string& note = for_daemon.emplace_back("--internal-guardian-note=");
  const size_t note_begin = note.size();
  constexpr size_t kLongestNote = 2048;
  note.resize(note_begin + kLongestNote);
  std::vector<std::string> for_guardian = InternalArguments("--internal-guardian", options);
  const std::string program = OwnProgram();
  const UniqueFd program_fd(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  const std::vector<char*> daemon_argv = AsArgv(for_daemon);
  const std::vector<char*> guardian_argv = AsArgv(for_guardian);
  for (;;) {
    const int exit_code = RunGuardian({.program = program.c_str(),
                                       .program_fd = program_fd.get(),
                                       .daemon_argv = daemon_argv.data(),
                                       .note = note.data() + note_begin,
                                       .note_size = kLongestNote,
                                       .reaped_write_fd = options.reaped_write_fd,
                                       .ready_fd = options.ready_fd,
                                       .has_served = has_served,
                                       .is_awaited = options.started_fd >= 0});
    if (exit_code != kReplaceGuardian) {
      ReleaseKeeper(options.keeper_fd);
      RemoveFiles(paths);
      return exit_code;
    }
    execv(program.c_str(), guardian_argv.data());
    // The program has gone since it was tried. This one goes on, and with it the services.
    PrintError(fmt::format("supervisord: {}: {}; the guardian was not replaced\n", program, ErrnoText(errno)));
    has_served = true;
  }
}

}  // namespace supervisor
