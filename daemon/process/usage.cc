#include "daemon/process/usage.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

std::optional<ProcStat> ReadOpenStat(int fd) {
  char buffer[1024];
  const ssize_t got = pread(fd, buffer, sizeof(buffer), 0);
  return got > 0 ? ParseProcStat(std::string_view(buffer, static_cast<size_t>(got))) : std::nullopt;
}

}  // namespace

Usage UsageSampler::Sample(const std::vector<pid_t>& pids, MonoTime now) {
  static const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  static const auto page_size = static_cast<double>(sysconf(_SC_PAGESIZE));
  const double elapsed = last_ == kNoDeadline ? 0 : absl::ToDoubleSeconds(now - last_);
  std::map<pid_t, Tracked> tracked;
  uint64_t spent_ticks = 0;
  uint64_t rss_pages = 0;
  for (const pid_t pid : pids) {
    Tracked entry;
    if (auto known = tracked_.find(pid); known != tracked_.end()) {
      entry = std::move(known->second);
    }
    std::optional<ProcStat> stat = entry.stat ? ReadOpenStat(entry.stat.get()) : std::nullopt;
    const bool is_new = !stat;
    if (is_new) {
      entry.stat.Reset(open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC));
      stat = entry.stat ? ReadOpenStat(entry.stat.get()) : std::nullopt;
      if (!stat) {
        continue;
      }
    }
    // All that a process seen for the first time has used counts, if it came to be since the sample before.
    spent_ticks +=
        is_new ? (elapsed > 0 ? stat->cpu_ticks : 0) : stat->cpu_ticks - std::min(entry.cpu_ticks, stat->cpu_ticks);
    entry.cpu_ticks = stat->cpu_ticks;
    rss_pages += stat->rss_pages;
    tracked.emplace(pid, std::move(entry));
  }
  tracked_ = std::move(tracked);
  last_ = now;
  constexpr double kMegabyte = 1 << 20;
  return {.cpu_percent = elapsed > 0 ? 100.0 * static_cast<double>(spent_ticks) / ticks_per_second / elapsed : 0,
          .memory_mb = static_cast<double>(rss_pages) * page_size / kMegabyte};
}

void UsageSampler::Reset() {
  tracked_.clear();
  last_ = kNoDeadline;
}

}  // namespace supervisor
