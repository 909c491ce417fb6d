#include "daemon/process/signal_refusal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pwd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>

#include "common/errno_status.h"
#include "common/signal_names.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

constexpr size_t kMostDescribed = 3;

// From /etc/passwd alone: a name service may take for ever.
std::string UserText(uid_t uid) {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen("/etc/passwd", "re"), fclose);
  while (file != nullptr && fgetpwent_r(file.get(), &entry, buffer.data(), buffer.size(), &found) == 0) {
    if (entry.pw_uid == uid) {
      return fmt::format("uid {} ({})", uid, entry.pw_name);
    }
  }
  return fmt::format("uid {}", uid);
}

std::string WithMore(const std::vector<std::string>& texts, size_t all) {
  const std::string more = all > texts.size() ? fmt::format("; and {} more", all - texts.size()) : "";
  return fmt::format("{}{}", fmt::join(texts, "; "), more);
}

}  // namespace

int SendSignalTo(int pid_fd, int signal) {
  const bool sent = syscall(SYS_pidfd_send_signal, pid_fd, signal, nullptr, 0) == 0;
  return sent || errno == ESRCH ? 0 : errno;
}

std::string DescribeProcess(pid_t pid) {
  std::string text = fmt::format("pid {}", pid);
  if (const std::string name = ProcessName(pid); !name.empty()) {
    text += fmt::format(" ({})", name);
  }
  if (const std::optional<uid_t> uid = RealUid(pid)) {
    text += fmt::format(" of {}", UserText(*uid));
  }
  return text;
}

std::string DescribeRefusals(int signal, const std::vector<SignalRefusal>& refusals) {
  std::vector<std::string> texts;
  for (const SignalRefusal& refusal : refusals) {
    if (texts.size() == kMostDescribed) {
      break;
    }
    texts.push_back(fmt::format("{} to {}: {}{}", SignalName(signal), DescribeProcess(refusal.pid),
                                ErrnoText(refusal.error),
                                refusal.error == EPERM ? fmt::format(" for {}", UserText(geteuid())) : ""));
  }
  return WithMore(texts, refusals.size());
}

std::string DescribeLeft(const std::vector<pid_t>& pids) {
  std::vector<std::string> texts;
  for (const pid_t pid : pids) {
    if (texts.size() == kMostDescribed) {
      break;
    }
    const std::optional<ProcStat> stat = ReadProcStat(pid);
    const bool sleeps = stat && stat->state == 'D';
    texts.push_back(fmt::format(
        "{} {}", DescribeProcess(pid),
        sleeps ? "sleeps uninterruptibly (a disk or network file system that does not answer?)" : "is still there"));
  }
  return WithMore(texts, pids.size());
}

}  // namespace supervisor
