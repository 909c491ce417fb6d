#include "daemon/process/proc_fs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>

#include "common/clock.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

// Reads up to `most` bytes: files in /proc have no size to ask for.
std::string ReadFile(const std::string& path, size_t most) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string content;
  std::array<char, 4096> chunk{};
  while (fd && content.size() < most) {
    const ssize_t count = read(fd.get(), chunk.data(), chunk.size());
    if (count <= 0) {
      break;
    }
    content.append(chunk.data(), static_cast<size_t>(count));
  }
  return content;
}

template <typename Number>
bool TakeNumber(std::string_view& text, Number& number) {
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) {
    return false;
  }
  text.remove_prefix(begin);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return error == std::errc();
}

bool SkipFields(std::string_view& text, int count) {
  for (int i = 0; i < count; ++i) {
    const size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) {
      return false;
    }
    const size_t end = text.find(' ', begin);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end);
  }
  return true;
}

// The entries of a directory whose names are numbers.
std::vector<pid_t> NumberedEntries(const std::string& directory) {
  std::vector<pid_t> numbers;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    pid_t number = 0;
    const auto [rest, failure] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failure == std::errc() && *rest == '\0') {
      numbers.push_back(number);
    }
  }
  return numbers;
}

bool KernelListsChildren() {
  static const bool lists = access("/proc/thread-self/children", R_OK) == 0;
  return lists;
}

void AddChildren(const std::string& file, std::vector<pid_t>& children) {
  constexpr size_t kMostBytes = 1 << 20;
  const std::string list = ReadFile(file, kMostBytes);
  std::string_view rest = list;
  for (pid_t child = 0; TakeNumber(rest, child);) {
    children.push_back(child);
  }
}

std::vector<pid_t> ReadChildren(pid_t pid) {
  std::vector<pid_t> children;
  for (const pid_t thread : NumberedEntries(fmt::format("/proc/{}/task", pid))) {
    AddChildren(fmt::format("/proc/{}/task/{}/children", pid, thread), children);
  }
  return children;
}

std::vector<ProcStat> SelectTree(const std::vector<ProcStat>& all, pid_t root) {
  std::set<pid_t> members = {root};
  size_t before = 0;
  while (members.size() != before) {  // a child may be listed before its parent
    before = members.size();
    for (const ProcStat& process : all) {
      if (members.contains(process.parent)) {
        members.insert(process.pid);
      }
    }
  }
  std::vector<ProcStat> tree;
  for (const ProcStat& process : all) {
    if (members.contains(process.pid)) {
      tree.push_back(process);
    }
  }
  return tree;
}

}  // namespace

std::optional<ProcStat> ParseProcStat(std::string_view text) {
  ProcStat stat;
  if (!TakeNumber(text, stat.pid)) {
    return std::nullopt;
  }
  const size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos || name_end + 3 > text.size()) {
    return std::nullopt;
  }
  text.remove_prefix(name_end + 2);
  stat.state = text.front();
  text.remove_prefix(1);
  uint64_t user_ticks = 0;
  uint64_t system_ticks = 0;
  int64_t rss = 0;
  uint64_t flags = 0;
  // Fields 4 to 6, then 9, 14 and 15, 22 and 24.
  if (!TakeNumber(text, stat.parent) || !TakeNumber(text, stat.group) || !TakeNumber(text, stat.session) ||
      !SkipFields(text, 2) || !TakeNumber(text, flags) || !SkipFields(text, 4) || !TakeNumber(text, user_ticks) ||
      !TakeNumber(text, system_ticks) || !SkipFields(text, 6) || !TakeNumber(text, stat.start_ticks) ||
      !SkipFields(text, 1) || !TakeNumber(text, rss)) {
    return std::nullopt;
  }
  constexpr uint64_t kForkNoExec = 0x40;
  stat.has_execed = (flags & kForkNoExec) == 0;
  // Fields 26 and 28; then 52, the last one, which is not there before Linux 3.5.
  if (!SkipFields(text, 1) || !TakeNumber(text, stat.code_start) || !SkipFields(text, 1) ||
      !TakeNumber(text, stat.stack_start)) {
    stat.code_start = stat.stack_start = 0;
  }
  if (!SkipFields(text, 23) || !TakeNumber(text, stat.exit_status)) {
    stat.exit_status = 0;
  }
  stat.cpu_ticks = user_ticks + system_ticks;
  stat.rss_pages = rss > 0 ? static_cast<uint64_t>(rss) : 0;
  return stat;
}

std::optional<ProcStat> ReadProcStat(pid_t pid) {
  constexpr size_t kEnough = 2048;
  return ParseProcStat(ReadFile(fmt::format("/proc/{}/stat", pid), kEnough));
}

namespace {

// The rest of "Uid:\t1 1 1 1\n" in /proc/PID/status, and of the others that are so written.
std::string StatusField(const std::string& pid, const std::string& name) {
  constexpr size_t kEnough = 8192;
  const std::string status = "\n" + ReadFile(fmt::format("/proc/{}/status", pid), kEnough);
  const size_t at = status.find(fmt::format("\n{}:", name));
  if (at == std::string::npos) {
    return {};
  }
  const size_t begin = at + name.size() + 2;
  return status.substr(begin, status.find('\n', begin) - begin);
}

// As ptrace_may_access (kernel/ptrace.c) decides of a process without memory.
bool MayKnowStatus(pid_t pid) {
  constexpr unsigned kCapSysPtrace = 19;
  const std::string capabilities = StatusField("self", "CapEff");
  if ((std::strtoull(capabilities.c_str(), nullptr, 16) >> kCapSysPtrace & 1) != 0) {
    return true;
  }
  const auto all = [pid](const char* name, unsigned id) {
    return StatusField(std::to_string(pid), name).starts_with(fmt::format("\t{0}\t{0}\t{0}\t", id));
  };
  return all("Uid", geteuid()) && all("Gid", getegid());
}

}  // namespace

std::optional<int> ReadZombieStatus(pid_t pid, uint64_t start_ticks) {
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  if (!stat || stat->state != 'Z' || stat->start_ticks != start_ticks) {
    return std::nullopt;
  }
  return stat->exit_status != 0 || MayKnowStatus(pid) ? std::optional(stat->exit_status) : std::nullopt;
}

std::string ProcessName(pid_t pid) {
  constexpr size_t kEnough = 64;
  std::string name = ReadFile(fmt::format("/proc/{}/comm", pid), kEnough);
  while (!name.empty() && name.back() == '\n') {
    name.pop_back();
  }
  std::ranges::replace_if(
      name, [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  return name;
}

std::optional<uid_t> RealUid(pid_t pid) {
  const std::string uids = StatusField(std::to_string(pid), "Uid");
  std::string_view rest = uids;
  rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of(" \t")));
  uid_t uid = 0;
  return TakeNumber(rest, uid) ? std::optional(uid) : std::nullopt;
}

std::vector<ProcStat> ReadAllProcesses() {
  std::vector<ProcStat> processes;
  for (const pid_t pid : NumberedEntries("/proc")) {
    if (const std::optional<ProcStat> stat = ReadProcStat(pid)) {
      processes.push_back(*stat);
    }
  }
  return processes;
}

std::vector<pid_t> ChildrenOfThread(pid_t thread) {
  std::vector<pid_t> children;
  AddChildren(fmt::format("/proc/self/task/{}/children", thread), children);
  return children;
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  if (KernelListsChildren()) {
    return ReadChildren(pid);
  }
  std::vector<pid_t> children;
  for (const ProcStat& process : ReadAllProcesses()) {
    if (process.parent == pid) {
      children.push_back(process.pid);
    }
  }
  return children;
}

std::vector<pid_t> OrphansOf(pid_t reaper) {
  if (!KernelListsChildren()) {
    return ChildrenOf(reaper);
  }
  std::vector<pid_t> children;
  AddChildren(fmt::format("/proc/{0}/task/{0}/children", reaper), children);
  return children;
}

std::vector<ProcStat> ReadProcessTree(pid_t root) {
  if (!KernelListsChildren()) {
    return SelectTree(ReadAllProcesses(), root);
  }
  std::vector<ProcStat> tree;
  std::set<pid_t> seen = {root};
  std::vector<pid_t> open = {root};
  while (!open.empty()) {
    const pid_t pid = open.back();
    open.pop_back();
    if (const std::optional<ProcStat> stat = ReadProcStat(pid)) {
      tree.push_back(*stat);
      for (const pid_t child : ReadChildren(pid)) {
        if (seen.insert(child).second) {
          open.push_back(child);
        }
      }
    }
  }
  return tree;
}

std::string ReadProcFile(pid_t pid, std::string_view name) {
  constexpr size_t kEnough = 16384;
  return ReadFile(fmt::format("/proc/{}/{}", pid, name), kEnough);
}

std::string BootId() {
  constexpr size_t kEnough = 64;
  std::string id = ReadFile("/proc/sys/kernel/random/boot_id", kEnough);
  while (!id.empty() && id.back() == '\n') {
    id.pop_back();
  }
  return id;
}

std::optional<std::string> EnvironmentValue(pid_t pid, std::string_view name) {
  constexpr size_t kMostBytes = 4 << 20;
  const std::string environment = ReadFile(fmt::format("/proc/{}/environ", pid), kMostBytes);
  std::string_view rest = environment;
  while (!rest.empty()) {
    const std::string_view variable = rest.substr(0, rest.find('\0'));
    if (variable.size() > name.size() && variable.starts_with(name) && variable[name.size()] == '=') {
      return std::string(variable.substr(name.size() + 1));
    }
    rest.remove_prefix(std::min(rest.size(), variable.size() + 1));
  }
  return std::nullopt;
}

namespace {

absl::Duration ClockTick() {
  static const int64_t per_second = sysconf(_SC_CLK_TCK);
  return absl::Nanoseconds(1'000'000'000 / per_second);
}

}  // namespace

uint64_t ClockTicks(absl::Duration time) { return static_cast<uint64_t>(time / ClockTick()); }

absl::Duration FromClockTicks(uint64_t ticks) { return ClockTick() * static_cast<double>(ticks); }

absl::Duration StartSinceBoot(pid_t pid) {
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  return stat ? FromClockTicks(stat->start_ticks) : SinceBoot();
}

}  // namespace supervisor
