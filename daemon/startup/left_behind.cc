#include "daemon/startup/left_behind.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "daemon/guardian/keeper.h"

namespace supervisor {
namespace {

constexpr size_t kMostBytes = 1 << 20;

std::string FileFor(const RuntimePaths& paths) {
  return std::filesystem::path(paths.pid_file).replace_extension(".left").string();
}

}  // namespace

std::vector<std::string> LeftBehindBy(const std::vector<ActionOutcome>& outcomes) {
  std::vector<std::string> lines;
  for (const ActionOutcome& outcome : outcomes) {
    if (outcome.kind == ActionOutcome::Kind::kFailed) {
      lines.push_back(fmt::format("{}: {}", outcome.id, outcome.message));
    }
    if (outcome.leaves_its_own) {
      lines.push_back(fmt::format("{}: {}", outcome.id, outcome.left_running));
    }
  }
  return lines;
}

std::function<void(UniqueFd)> DiscardThrough(int keeper_fd) {
  return [keeper_fd](const UniqueFd& fifo) {
    if (!DiscardThroughKeeper(keeper_fd, fifo.get())) {
      LogWarning("a process that was left running blocks when the pipe that it writes to is full",
                 {{"error", "there is no supervisor-keep that would read it"}});
    }
  };
}

void WriteLeftBehind(const RuntimePaths& paths, const std::vector<std::string>& lines) {
  const std::string file = FileFor(paths);
  if (lines.empty()) {
    unlink(file.c_str());
    return;
  }
  if (const absl::Status status = WriteFileAtomically(file, fmt::format("{}\n", fmt::join(lines, "\n")), 0600);
      !status.ok()) {
    LogWarning("supervisord --stop cannot say what is left running", {{"error", std::string(status.message())}});
  }
}

std::vector<std::string> TakeLeftBehind(const RuntimePaths& paths) {
  const std::string file = FileFor(paths);
  const absl::StatusOr<std::string> text = ReadWholeFile(file, kMostBytes);
  if (!text.ok()) {
    return {};
  }
  unlink(file.c_str());
  std::vector<std::string> lines;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    lines.emplace_back(line);
  }
  return lines;
}

}  // namespace supervisor
