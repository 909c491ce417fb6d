#include "ctl/unreachable.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>

#include "common/errno_status.h"
#include "common/paths.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr char kSystemSocket[] = "/run/supervisord/supervisord.sock";

// The first bytes of a small file; nothing when it cannot be read.
std::optional<std::string> ReadSmallFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) {
    return std::nullopt;
  }
  std::array<char, 256> buffer{};
  const ssize_t size = read(fd.get(), buffer.data(), buffer.size());
  return size < 0 ? std::nullopt : std::optional<std::string>(std::string(buffer.data(), static_cast<size_t>(size)));
}

// The name of the running program; empty when there is no such process. A zombie counts as none.
std::string ProgramOf(int pid) {
  const std::optional<std::string> stat = ReadSmallFile(fmt::format("/proc/{}/stat", pid));
  if (!stat) {
    return {};
  }
  // "PID (NAME) STATE ...": the name may contain parentheses itself, proc(5).
  const size_t open_paren = stat->find('(');
  const size_t close_paren = stat->rfind(')');
  if (open_paren == std::string::npos || close_paren == std::string::npos || close_paren + 2 >= stat->size() ||
      (*stat)[close_paren + 2] == 'Z' || (*stat)[close_paren + 2] == 'X') {
    return {};
  }
  return stat->substr(open_paren + 1, close_paren - open_paren - 1);
}

std::string DescribeDaemon(const std::string& socket, const DaemonProcess& daemon) {
  const std::string pid_file = GetRuntimePaths(socket).pid_file;
  switch (daemon.state) {
    case DaemonProcess::State::kNoPidFile:
      return fmt::format("No daemon runs there (there is no {}).", pid_file);
    case DaemonProcess::State::kUnreadable:
      return fmt::format("Whether a daemon runs cannot be told: {} cannot be read.", pid_file);
    case DaemonProcess::State::kDead:
      return fmt::format("The daemon is gone: {} names pid {}, which does not run.", pid_file, daemon.pid);
    case DaemonProcess::State::kSomebodyElse:
      return fmt::format("The daemon is gone: {} names pid {}, which is now another program ({}).", pid_file,
                         daemon.pid, daemon.program);
    case DaemonProcess::State::kAlive:
      return fmt::format("A daemon runs (pid {}) but does not answer: it may still be starting, or be ending.",
                         daemon.pid);
  }
  return {};
}

std::string HowToStart(const std::string& socket, bool socket_is_default, const DaemonProcess& daemon) {
  if (daemon.state == DaemonProcess::State::kAlive) {
    return "Look at it with: supervisord --status";
  }
  if (!socket_is_default) {
    return fmt::format(
        "Start it with: supervisord -c FILE --daemon, where FILE has \"socket\": \"{}\" under \"global\"", socket);
  }
  if (geteuid() != 0 && access(kSystemSocket, F_OK) == 0) {
    return fmt::format(
        "Start your own with: supervisord --daemon\nThe system's daemon is another one: use sudo, or "
        "--socket {}",
        kSystemSocket);
  }
  return "Start it with: supervisord --daemon";
}

// "owner uid 0, group ops, mode 0660", as far as it can be seen.
std::string DescribePermissions(const std::string& socket) {
  struct stat info {};
  if (stat(socket.c_str(), &info) != 0) {
    return "its directory may not be entered";
  }
  group entry{};
  group* found = nullptr;
  std::array<char, 4096> buffer{};
  getgrgid_r(info.st_gid, &entry, buffer.data(), buffer.size(), &found);
  return fmt::format("owner uid {}, group {}, mode {:04o}", info.st_uid,
                     found != nullptr ? std::string(found->gr_name) : fmt::format("{}", info.st_gid),
                     static_cast<unsigned>(info.st_mode) & 07777U);
}

std::string Cause(const std::string& socket, int error) {
  switch (error) {
    case ECONNREFUSED:
      if (struct stat info{}; stat(socket.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
        return "it is not a socket";
      }
      return "nobody listens there: Connection refused (ECONNREFUSED)";
    case EPROTOTYPE:
      return "a socket of another kind is there (EPROTOTYPE)";
    case EAGAIN:
    case EINPROGRESS:
      return "it accepts no connections: its queue is full";
    case ENAMETOOLONG:
      return fmt::format("the path has {} bytes, and a socket's can have at most {}", socket.size(),
                         sizeof(sockaddr_un::sun_path) - 1);
    default:
      return ErrnoText(error);
  }
}

}  // namespace

bool IsSupervisord(int pid) { return pid > 0 && ProgramOf(pid) == "supervisord"; }

DaemonProcess FindDaemon(const std::string& socket) {
  const std::string pid_file = GetRuntimePaths(socket).pid_file;
  if (access(pid_file.c_str(), F_OK) != 0 && errno == ENOENT) {
    return {};
  }
  const std::optional<std::string> content = ReadSmallFile(pid_file);
  int pid = 0;
  if (!content || std::from_chars(content->data(), content->data() + content->size(), pid).ec != std::errc() ||
      pid <= 0) {
    return {.state = DaemonProcess::State::kUnreadable, .pid = 0, .program = {}};
  }
  const std::string program = ProgramOf(pid);
  if (program.empty()) {
    return {.state = DaemonProcess::State::kDead, .pid = pid, .program = {}};
  }
  return program == "supervisord"
             ? DaemonProcess{.state = DaemonProcess::State::kAlive, .pid = pid, .program = program}
             : DaemonProcess{.state = DaemonProcess::State::kSomebodyElse, .pid = pid, .program = program};
}

Failure DescribeUnreachable(const std::string& socket, bool socket_is_default, int error) {
  if (error == EACCES || error == EPERM) {
    return {.exit_code = ExitCode::kNotPermitted,
            .code = "permission_denied",
            .message = fmt::format("not permitted to use {} ({}): you need to be root or in the socket's group\n"
                                   "Try it with sudo, or have an administrator set global.socket_group.",
                                   socket, DescribePermissions(socket))};
  }
  const DaemonProcess daemon = FindDaemon(socket);
  std::string message = fmt::format("cannot reach the daemon at {}: {}", socket, Cause(socket, error));
  if (error != ENAMETOOLONG) {
    message += fmt::format("\n{}\n{}", DescribeDaemon(socket, daemon), HowToStart(socket, socket_is_default, daemon));
  }
  return {.exit_code = ExitCode::kUnreachable, .code = "unavailable", .message = std::move(message)};
}

}  // namespace supervisor
