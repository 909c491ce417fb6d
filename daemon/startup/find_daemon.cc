#include "daemon/startup/find_daemon.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "daemon/config/load.h"
#include "daemon/config/socket_search.h"
#include "daemon/startup/lock.h"
#include "daemon/startup/running_supervisors.h"

namespace supervisor {
namespace {

using Outcome = SocketSearch::Outcome;

class Finder {
 public:
  explicit Finder(const DaemonOptions& options) : options_(options), in_file_(SearchSocket(options.config_file)) {}

  DaemonSearch Find() {
    if (const std::optional<std::string> socket = CertainSocket()) {
      found_.paths = GetRuntimePaths(*socket);
      if (AskLock(found_.paths)) {
        return std::move(found_);
      }
    }
    supervisors_ = ListSupervisors();
    if (!FindByProcess() && !FindByGuess() && !IsCertain()) {
      CannotTell();
    }
    return std::move(found_);
  }

 private:
  // What a start with this file would serve.
  std::optional<std::string> CertainSocket() const {
    switch (in_file_.outcome) {
      case Outcome::kNamed:
        return in_file_.sockets.front();
      case Outcome::kNotNamed:
        return GetDefaultPaths().socket;
      case Outcome::kNoFile:
        return options_.config_given ? std::nullopt : std::optional(GetDefaultPaths().socket);
      case Outcome::kGuessed:
      case Outcome::kUnusable:
      case Outcome::kUnreadable:
        return std::nullopt;
    }
    return std::nullopt;
  }

  // Whether that none runs on that socket means that none runs. A file with an error elsewhere may have its socket's
  // key mistyped.
  bool IsCertain() const {
    switch (in_file_.outcome) {
      case Outcome::kNamed:
        return true;
      case Outcome::kNotNamed:
        return LoadConfig(options_.config_file, {.trust = FileTrust::kAny, .directory = options_.config_directory})
            .config.has_value();
      case Outcome::kNoFile:
        return !options_.config_given;
      case Outcome::kGuessed:
      case Outcome::kUnusable:
      case Outcome::kUnreadable:
        return false;
    }
    return false;
  }

  // True where that settles it: one runs there, or the lock cannot be asked.
  bool AskLock(const RuntimePaths& paths) {
    const absl::StatusOr<std::optional<pid_t>> pid = RunningDaemon(paths);
    if (!pid.ok()) {
      found_.paths = paths;
      found_.trouble = std::string(pid.status().message());
      found_.exit_code = 1;
      return true;
    }
    if (*pid) {
      found_.pid = *pid;
      found_.paths = paths;
    }
    return pid->has_value();
  }

  // Started with this file, and its socket's lock says the same pid as its arguments do.
  bool FindByProcess() {
    std::set<std::string> sockets;
    for (const RunningSupervisor& one : supervisors_) {
      if (IsSameFile(one.config_file, options_.config_file) && Serves(one)) {
        sockets.insert(one.socket);
      }
    }
    if (sockets.size() > 1) {
      std::string text = "more than one was started with this file:";
      for (const std::string& socket : sockets) {
        text += fmt::format(" {}", socket);
      }
      SayTrouble(text, 1);
      return true;
    }
    if (sockets.empty() || !AskLock(GetRuntimePaths(*sockets.begin()))) {
      return false;
    }
    if (!found_.pid) {
      return true;  // it cannot be told
    }
    found_.remark =
        in_file_.outcome == Outcome::kNamed
            ? fmt::format("{} names {} now; the daemon that was started with it serves {}", options_.config_file,
                          in_file_.sockets.front(), *sockets.begin())
            : fmt::format("the configuration cannot be used ({}); the daemon that was started with it is meant",
                          Trouble());
    return true;
  }

  bool FindByGuess() {
    std::vector<std::string> running;
    for (const std::string& socket : in_file_.sockets) {
      if (in_file_.outcome == Outcome::kGuessed && AskLock(GetRuntimePaths(socket))) {
        running.push_back(socket);
      }
    }
    if (running.size() == 1 && found_.pid) {
      found_.remark =
          fmt::format("the configuration cannot be used ({}); the daemon on the socket that stands in it, {}, is meant",
                      Trouble(), running.front());
    }
    if (running.size() > 1) {
      SayTrouble("daemons run on more than one of the sockets that stand in it", 2);
    }
    return !running.empty();
  }

  static bool Serves(const RunningSupervisor& one) {
    const absl::StatusOr<std::optional<pid_t>> pid = RunningDaemon(GetRuntimePaths(one.socket));
    return pid.ok() && *pid == one.pid;
  }

  std::string Trouble() const {
    return in_file_.trouble.empty() ? fmt::format("{} has errors", options_.config_file) : in_file_.trouble;
  }

  void SayTrouble(const std::string& what, int exit_code) {
    found_.pid.reset();
    found_.trouble = fmt::format("{}; {}", Trouble(), what);
    found_.exit_code = exit_code;
  }

  // With what runs, so that the right one can be named.
  void CannotTell() {
    std::set<std::string> running;
    for (const RunningSupervisor& one : supervisors_) {
      if (Serves(one)) {
        running.insert(fmt::format("\n  pid {} on {}, started with {}", one.pid, one.socket, one.config_file));
      }
    }
    std::string text = "so its socket is not known";
    text += running.empty() ? "; no supervisord is seen on this machine" : ". These run (-c FILE names one):";
    for (const std::string& line : running) {
      text += line;
    }
    SayTrouble(text, in_file_.outcome == Outcome::kUnreadable ? 1 : 2);
  }

  const DaemonOptions& options_;
  const SocketSearch in_file_;
  std::vector<RunningSupervisor> supervisors_;
  DaemonSearch found_;
};

}  // namespace

DaemonSearch FindDaemon(const DaemonOptions& options) { return Finder(options).Find(); }

}  // namespace supervisor
