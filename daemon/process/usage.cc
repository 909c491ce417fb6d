#include "daemon/process/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "daemon/process/cgroup_files.h"
#include "daemon/process/cgroup_limits.h"
#include "daemon/process/descriptor_budget.h"
#include "daemon/process/exec_state.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// Of a tree with more the files are opened each time: descriptors are for services.
constexpr size_t kMostKept = 16;

// From the beginning; all of these files are small.
std::string ReadOpen(const UniqueFd& fd) {
  char buffer[4096];
  const ssize_t got = fd ? pread(fd.get(), buffer, sizeof(buffer), 0) : -1;
  return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : std::string();
}

void OpenOnce(UniqueFd& fd, const std::string& path) {
  if (!fd) {
    fd.Reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  }
}

// "Pss:      1234 kB", "read_bytes: 4096": the number after the key at the beginning of a line.
std::optional<uint64_t> NumberAfter(std::string_view text, std::string_view key) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(key)) {
      continue;
    }
    line.remove_prefix(key.size());
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(" \t")));
    uint64_t value = 0;
    for (const char c : line) {
      if (c < '0' || c > '9') {
        break;
      }
      value = value * 10 + static_cast<uint64_t>(c - '0');
    }
    return value;
  }
  return std::nullopt;
}

// Linux says the number as the directory's size since 6.2; before that it has to be counted.
std::optional<int64_t> CountDescriptors(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/fd", pid);
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && info.st_size > 0) {
    return info.st_size;
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (directory == nullptr) {
    return std::nullopt;
  }
  int64_t count = -2;                            // "." and ".."
  while (readdir(directory.get()) != nullptr) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
    ++count;
  }
  return count;
}

uint64_t Rise(uint64_t before, uint64_t now) { return now - std::min(before, now); }

}  // namespace

std::vector<pid_t> UsageSampler::PidsOf(const ProcessTreeView& tree, EveryProcess& everybody) {
  if (tree.cgroup.empty()) {
    return MembersOf(tree, everybody);
  }
  if (cgroup_.path != tree.cgroup) {
    cgroup_ = {};
    cgroup_.path = tree.cgroup;
  }
  if (CountChildCgroups(tree.cgroup) > 0) {
    return PidsBelow(tree.cgroup);
  }
  OpenOnce(cgroup_.procs, tree.cgroup + "/cgroup.procs");
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0;
       (got = pread(cgroup_.procs.get(), buffer, sizeof(buffer), static_cast<off_t>(text.size()))) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  std::vector<pid_t> pids;
  ParsePids(text, pids);
  return pids;
}

// A process that shares its parent's address space (vfork(2), posix_spawn(3) before its exec) has none of its own.
void UsageSampler::AddMemory(const ProcStat& stat, Tracked& entry, Sums& sums) {
  static const auto page_size = static_cast<double>(sysconf(_SC_PAGESIZE));
  if (entry.shares_memory) {
    return;
  }
  const std::string path = fmt::format("/proc/{}/smaps_rollup", stat.pid);
  const bool was_open = static_cast<bool>(entry.memory);
  OpenOnce(entry.memory, path);
  std::optional<uint64_t> pss_kb = NumberAfter(ReadOpen(entry.memory), "Pss:");
  if (!pss_kb && was_open) {  // that address space is gone, and the numbers of the new one were not to be seen
    entry.memory.Reset();
    OpenOnce(entry.memory, path);
    pss_kb = NumberAfter(ReadOpen(entry.memory), "Pss:");
  }
  sums.has_resident_memory = sums.has_resident_memory || !pss_kb;
  sums.memory_bytes += pss_kb ? static_cast<double>(*pss_kb) * 1024 : static_cast<double>(stat.rss_pages) * page_size;
}

void UsageSampler::AddProcess(pid_t pid, Tracked entry, bool with_memory, std::map<pid_t, Tracked>& tracked,
                              Sums& sums) const {
  std::optional<ProcStat> stat = ParseProcStat(ReadOpen(entry.stat));
  bool is_new = !stat;
  if (is_new) {
    entry.stat.Reset();
    OpenOnce(entry.stat, fmt::format("/proc/{}/stat", pid));
    stat = ParseProcStat(ReadOpen(entry.stat));
    if (!stat) {
      return;
    }
    is_new = entry.start_ticks != stat->start_ticks;
    if (is_new) {
      UniqueFd file = std::move(entry.stat);
      entry = {};
      entry.stat = std::move(file);
      entry.start_ticks = stat->start_ticks;
    }
  }
  if (stat->is_dead()) {
    return;
  }
  const bool is_same_memory = entry.memory && entry.has_execed == stat->has_execed &&
                              entry.code_start == stat->code_start && entry.stack_start == stat->stack_start;
  if (!is_same_memory) {
    entry.memory.Reset();
    entry.has_execed = stat->has_execed;
    entry.code_start = stat->code_start;
    entry.stack_start = stat->stack_start;
    if (AwaitsExec(*stat)) {
      ++sums.awaiting_exec;
      return;
    }
    entry.shares_memory = SharesMemoryWithParent(*stat);
  }
  // All that a process seen for the first time has used counts, if it came to be since the sample before.
  const bool counts = !is_new || window_.began != kNoDeadline;
  sums.cpu_ticks += counts ? Rise(entry.cpu_ticks, stat->cpu_ticks) : 0;
  entry.cpu_ticks = stat->cpu_ticks;
  ++sums.processes;
  if (with_memory) {
    AddMemory(*stat, entry, sums);
  }
  OpenOnce(entry.io, fmt::format("/proc/{}/io", pid));
  const std::string io = ReadOpen(entry.io);
  const std::optional<uint64_t> read_bytes = NumberAfter(io, "read_bytes:");
  const std::optional<uint64_t> written_bytes = NumberAfter(io, "write_bytes:");
  sums.sees_io = sums.sees_io && read_bytes && written_bytes;
  sums.read_bytes += counts ? Rise(entry.read_bytes, read_bytes.value_or(0)) : 0;
  sums.written_bytes += counts ? Rise(entry.written_bytes, written_bytes.value_or(0)) : 0;
  entry.read_bytes = read_bytes.value_or(0);
  entry.written_bytes = written_bytes.value_or(0);
  const std::optional<int64_t> descriptors = CountDescriptors(pid);
  sums.sees_descriptors = sums.sees_descriptors && descriptors.has_value();
  sums.descriptors += descriptors.value_or(0);
  const bool keeps = DescriptorsAreInPlenty();
  if (!keeps || tracked.size() >= kMostKept) {
    entry.memory.Reset();
    entry.io.Reset();
  }
  if (!keeps) {
    entry.stat.Reset();
  }
  tracked.emplace(pid, std::move(entry));
}

Usage UsageSampler::Sample(const ProcessTreeView& tree, EveryProcess& everybody, MonoTime now) {
  return Measure(tree, PidsOf(tree, everybody), now);
}

Usage UsageSampler::Measure(const ProcessTreeView& tree, const std::vector<pid_t>& pids, MonoTime now) {
  constexpr double kMegabyte = 1 << 20;
  static const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  const bool charged = !tree.cgroup.empty() && tree.has_memory_controller;
  std::map<pid_t, Tracked> tracked;
  Sums sums;
  for (const pid_t pid : pids) {
    auto known = tracked_.find(pid);
    AddProcess(pid, known == tracked_.end() ? Tracked{} : std::move(known->second), !charged, tracked, sums);
  }
  tracked_ = std::move(tracked);
  double spent_seconds = static_cast<double>(sums.cpu_ticks) / ticks_per_second;
  double memory_bytes = sums.memory_bytes;
  if (!tree.cgroup.empty()) {
    // Finer than ticks, and with what has ended in between.
    OpenOnce(cgroup_.cpu, tree.cgroup + "/cpu.stat");
    const std::string text = ReadOpen(cgroup_.cpu);
    if (!text.empty()) {
      const uint64_t usec = FlatKeyedValue(text, "usage_usec");
      spent_seconds = static_cast<double>(Rise(cgroup_usec_, usec)) / 1e6;
      cgroup_usec_ = usec;
    }
  }
  if (charged) {
    OpenOnce(cgroup_.memory, tree.cgroup + "/memory.current");
    OpenOnce(cgroup_.memory_stat, tree.cgroup + "/memory.stat");
    const auto current = static_cast<double>(FlatKeyedValue("current " + ReadOpen(cgroup_.memory), "current"));
    const auto idle = static_cast<double>(FlatKeyedValue(ReadOpen(cgroup_.memory_stat), "inactive_file"));
    memory_bytes = std::max(0.0, current - idle);
  }
  if (!DescriptorsAreInPlenty()) {
    std::string path = std::move(cgroup_.path);
    cgroup_ = {};
    cgroup_.path = std::move(path);
  }
  Usage usage{.memory_mb = memory_bytes / kMegabyte,
              .processes = sums.processes,
              .awaiting_exec = sums.awaiting_exec,
              .has_resident_memory = sums.has_resident_memory};
  if (sums.sees_descriptors && sums.processes > 0) {
    usage.descriptors = sums.descriptors;
  }
  if (window_.began == kNoDeadline) {
    window_.began = now;
    return usage;
  }
  window_.cpu_seconds += spent_seconds;
  window_.read_bytes += sums.read_bytes;
  window_.written_bytes += sums.written_bytes;
  window_.sees_io = window_.sees_io && sums.sees_io;
  if (now - window_.began < shortest_rate_) {
    return usage;
  }
  const double elapsed = absl::ToDoubleSeconds(now - window_.began);
  usage.cpu_percent = 100.0 * window_.cpu_seconds / elapsed;
  if (window_.sees_io && sums.processes > 0) {
    usage.read_bytes_per_second = static_cast<double>(window_.read_bytes) / elapsed;
    usage.written_bytes_per_second = static_cast<double>(window_.written_bytes) / elapsed;
  }
  window_ = {.began = now};
  return usage;
}

}  // namespace supervisor
