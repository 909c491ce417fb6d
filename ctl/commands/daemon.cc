#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "common/clock.h"
#include "common/time_format.h"
#include "common/unique_fd.h"
#include "ctl/commands/action.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/verdict.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/unreachable.h"

namespace supervisor {
namespace {

// The services are stopped before the answer; what is left is the daemon's own end.
constexpr absl::Duration kEndPatience = absl::Seconds(30);
constexpr absl::Duration kUpgradePatience = absl::Seconds(30);

// Sees a daemon end: through pidfds, so that a pid that is used again is not mistaken for it.
class DaemonWatch {
 public:
  DaemonWatch(const Client& client, const v1::VersionResponse& version) : client_(client) {
    for (const int pid : {version.pid(), version.guardian_pid()}) {
      // Of a daemon in another pid namespace the number means somebody else here.
      if (IsSupervisord(pid)) {
        UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
        if (fd) {
          fds_.push_back(std::move(fd));
        }
      }
    }
  }

  // Whether it ended within that time.
  bool WaitForEnd(absl::Duration patience) const {
    const MonoTime give_up_at = MonotonicNow() + patience;
    for (const UniqueFd& fd : fds_) {
      pollfd ended{.fd = fd.get(), .events = POLLIN, .revents = 0};
      int ready = 0;
      do {
        const auto left_ms = absl::ToInt64Milliseconds(std::max(give_up_at - MonotonicNow(), absl::ZeroDuration()));
        ready = poll(&ended, 1, static_cast<int>(left_ms));
      } while (ready < 0 && errno == EINTR);
      if (ready == 0) {
        return false;
      }
    }
    return !fds_.empty() || WaitForSilence(give_up_at);
  }

 private:
  bool WaitForSilence(MonoTime give_up_at) const {
    while (client_.SomebodyListens()) {
      if (MonotonicNow() >= give_up_at) {
        return false;
      }
      poll(nullptr, 0, 20);
    }
    return true;
  }

  const Client& client_;
  std::vector<UniqueFd> fds_;
};

bool IsSameDaemon(const v1::VersionResponse& a, const v1::VersionResponse& b) {
  return a.pid() == b.pid() && a.started_unix_ms() == b.started_unix_ms();
}

std::string UpgradeText(const v1::VersionResponse& before, const v1::VersionResponse& after) {
  return fmt::format("supervisord: {} (pid {}) was replaced by {} (pid {}); the services go on\n",
                     EscapeForTerminal(before.version()), before.pid(), EscapeForTerminal(after.version()),
                     after.pid());
}

}  // namespace

ExitCode RunShutdown(const Invocation& invocation, Client& client, Output& output) {
  v1::VersionResponse version;
  if (const auto failure = client.Read(&Client::Stub::Version, v1::VersionRequest(), &version, "shutdown");
      failure && failure->exit_code == ExitCode::kUnreachable) {
    return output.Fail(*failure);
  }
  const DaemonWatch watch(client, version);
  v1::ShutdownRequest request;
  request.set_reason(invocation.reason);
  request.set_no_wait(invocation.no_wait);
  v1::ShutdownResponse response;
  const auto failure = client.ActToTheEnd(&Client::Stub::Shutdown, request, &response, "shutdown",
                                          invocation.no_wait ? Client::kReadTimeout : absl::InfiniteDuration());
  // The daemon may be gone before its answer is through: gone is what was asked for.
  if (failure && (failure->exit_code != ExitCode::kUnreachable || !watch.WaitForEnd(kEndPatience))) {
    return output.Fail(*failure);
  }
  const ExitCode verdict = ShowResults(Action::kShutdown, response.results(), output);
  if (invocation.no_wait) {
    output.Print(output.json() ? "" : "supervisord: stopping (not waited for)\n");
    return verdict;
  }
  output.Flush();
  if (!watch.WaitForEnd(kEndPatience)) {
    output.Message(fmt::format("supervisord (pid {}) has stopped its services, but has not ended after {}",
                               version.pid(), FormatSpan(kEndPatience)));
    return ExitCode::kTimedOut;
  }
  output.Print(output.json() ? "" : "supervisord: stopped\n");
  return verdict;
}

ExitCode RunUpgrade(const Invocation& invocation, Client& client, Output& output) {
  v1::VersionResponse before;
  if (const auto failure = client.Read(&Client::Stub::Version, v1::VersionRequest(), &before, "upgrade")) {
    return output.Fail(*failure);
  }
  v1::UpgradeRequest request;
  request.set_reason(invocation.reason);
  v1::UpgradeResponse response;
  const auto refused = client.ActToTheEnd(&Client::Stub::Upgrade, request, &response, "upgrade", kUpgradePatience);
  if (refused && refused->exit_code != ExitCode::kUnreachable) {
    return output.Fail(*refused);
  }
  // A lost connection is how an upgrade looks from here; the new daemon's answer says whether it came about.
  v1::VersionResponse after;
  const MonoTime give_up_at = MonotonicNow() + kUpgradePatience;
  do {
    if (const auto failure = client.Read(&Client::Stub::Version, v1::VersionRequest(), &after, "upgrade")) {
      return output.Fail(*failure);
    }
    if (!IsSameDaemon(before, after)) {
      response.set_old_version(before.version());
      response.set_new_version(after.version());
      output.json() ? output.PrintJson(UpgradeJson(response)) : output.Print(UpgradeText(before, after));
      return ExitCode::kDone;
    }
    poll(nullptr, 0, 50);
  } while (MonotonicNow() < give_up_at);
  return output.Fail(
      {.exit_code = ExitCode::kTimedOut,
       .code = "deadline_exceeded",
       .message = fmt::format("upgrade: the old daemon (pid {}) still answers; see its log", before.pid())});
}

}  // namespace supervisor
