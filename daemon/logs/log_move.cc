#include "daemon/logs/log_move.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "common/errno_status.h"
#include "common/rotated_files.h"
#include "common/rotation_ledger.h"
#include "common/unique_fd.h"
#include "daemon/logs/log_index.h"

namespace supervisor {
namespace {

// The number of "web.log.3" or "web.log.3.gz", of the log "web.log"; 0: it is another file.
int RotatedNumber(std::string_view name, std::string_view base) {
  if (!name.starts_with(base) || name.size() == base.size() || name[base.size()] != '.') {
    return 0;
  }
  name.remove_prefix(base.size() + 1);
  int number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const std::string_view rest(end, static_cast<size_t>(name.data() + name.size() - end));
  return error == std::errc() && number > 0 && (rest.empty() || rest == ".gz") ? number : 0;
}

// Newest first; the log itself is 0.
std::vector<int> NumbersOf(const std::string& directory, const std::string& base) {
  std::vector<int> numbers{0};
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (const int number = RotatedNumber(entry->path().filename().string(), base); number > 0) {
      numbers.push_back(number);
    }
  }
  std::ranges::sort(numbers);
  return numbers;
}

}  // namespace

absl::Status MoveLog(const std::string& from, const std::string& to) {
  const std::filesystem::path before(from);
  const std::filesystem::path after(to);
  const std::string old_base = before.filename().string();
  const std::string new_base = after.filename().string();
  if (before.parent_path() != after.parent_path()) {
    return absl::InvalidArgumentError(fmt::format("{} and {} lie in different directories", from, to));
  }
  const std::string directory = before.parent_path().string();
  const UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoToStatus(errno, directory);
  }
  struct stat there {};
  if (fstatat(fd.get(), new_base.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0) {
    return absl::OkStatus();
  }
  const auto move = [&](const std::string& old_name, const std::string& new_name) {
    const bool moved = renameat2(fd.get(), old_name.c_str(), fd.get(), new_name.c_str(), RENAME_NOREPLACE) == 0 ||
                       errno == ENOENT || errno == EEXIST;
    return moved ? absl::OkStatus() : ErrnoToStatus(errno, fmt::format("{}/{}", directory, old_name));
  };
  // First: what is not known to be of our own rotation would be kept for ever.
  if (!RotationLedger::Move(fd.get(), old_base, new_base)) {
    return ErrnoToStatus(errno, fmt::format("{}/{}", directory, LedgerName(old_base)));
  }
  const std::vector<int> numbers = NumbersOf(directory, old_base);
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
    if (absl::Status moved = move(RotatedName(old_base, *number), RotatedName(new_base, *number)); !moved.ok()) {
      return moved;
    }
    if (*number > 0) {
      if (absl::Status moved = move(RotatedGzipName(old_base, *number), RotatedGzipName(new_base, *number));
          !moved.ok()) {
        return moved;
      }
    }
  }
  return move(IndexName(old_base), IndexName(new_base));
}

}  // namespace supervisor
