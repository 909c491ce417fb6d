#include "daemon/logs/log_chain.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/careful_path.h"
#include "common/errno_status.h"
#include "common/rotated_files.h"
#include "daemon/logs/gzip_log.h"

namespace supervisor {
namespace {

constexpr int kAttempts = 100;  // each fails only when a rotation falls into its few microseconds

// The uncompressed size, which ends a gzip file (RFC 1952).
uint64_t GzipSize(int fd, uint64_t size) {
  std::array<unsigned char, 4> end{};
  if (size < end.size() || pread(fd, end.data(), end.size(), static_cast<off_t>(size - end.size())) != 4) {
    return 0;
  }
  return end[0] | end[1] << 8 | end[2] << 16 | static_cast<uint64_t>(end[3]) << 24;
}

}  // namespace

LogChain::LogChain(std::string path, int largest_gap) : path_(std::move(path)), largest_gap_(largest_gap) {
  const size_t slash = path_.rfind('/');
  directory_ = slash == std::string::npos ? "." : path_.substr(0, std::max<size_t>(slash, 1));
  base_ = slash == std::string::npos ? path_ : path_.substr(slash + 1);
}

absl::StatusOr<UniqueFd> LogChain::OpenDirectory() const { return OpenDirectoryCarefully(directory_); }

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenName(int directory, const std::string& name, int index,
                                                                 bool gzip) const {
  File file;
  file.fd.Reset(openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.fd) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return std::nullopt;
    }
    return ErrnoToStatus(errno, fmt::format("log file {}/{}", directory_, name));
  }
  const auto facts = FactsOf(file.fd.get());
  if (!facts || !facts->regular) {
    return std::nullopt;
  }
  file.index = index;
  file.entry.id = facts->id;
  file.entry.gzip = gzip;
  file.entry.modified_ms = facts->modified_ms;
  file.entry.size = gzip ? GzipSize(file.fd.get(), facts->size) : facts->size;
  if (gzip) {
    file.entry.original = OriginalOfGzip(file.fd.get());
  }
  return file;
}

bool LogChain::Entry::SameAs(const Entry& other) const {
  return id == other.id || (original && *original == other.id) || (other.original && *other.original == id) ||
         (original && other.original && *original == *other.original);
}

std::string LogChain::NameOf(const File& file) const {
  return file.entry.gzip ? RotatedGzipName(path_, file.index) : RotatedName(path_, file.index);
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::Open(int index) const {
  const absl::StatusOr<UniqueFd> directory = OpenDirectory();
  if (absl::IsNotFound(directory.status())) {
    return std::nullopt;
  }
  if (!directory.ok()) {
    return directory.status();
  }
  return OpenIn(directory->get(), index);
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenIn(int directory, int index) const {
  auto plain = OpenName(directory, RotatedName(base_, index), index, false);
  if (index == 0 || !plain.ok() || plain->has_value()) {
    return plain;
  }
  return OpenName(directory, RotatedGzipName(base_, index), index, true);
}

std::optional<LogChain::Entry> LogChain::Probe(int directory, int index) const {
  if (const auto facts = FactsAt(directory, RotatedName(base_, index)); facts && facts->regular) {
    return Entry{.id = facts->id,
                 .original = std::nullopt,
                 .gzip = false,
                 .size = facts->size,
                 .modified_ms = facts->modified_ms};
  }
  if (index == 0) {
    return std::nullopt;
  }
  const auto file = OpenName(directory, RotatedGzipName(base_, index), index, true);
  return file.ok() && file->has_value() ? std::optional((*file)->entry) : std::nullopt;
}

std::optional<int> LogChain::Find(const Entry& entry) const {
  const absl::StatusOr<UniqueFd> directory = OpenDirectory();
  return directory.ok() ? FindIn(directory->get(), entry) : std::nullopt;
}

std::optional<int> LogChain::FindIn(int directory, const Entry& entry) const {
  for (int index = 0, last = 0; index <= last + largest_gap_; ++index) {
    if (const auto found = Probe(directory, index)) {
      if (found->SameAs(entry)) {
        return index;
      }
      last = index;
    }
  }
  return std::nullopt;
}

std::vector<LogChain::Entry> LogChain::List() const {
  std::vector<Entry> entries;
  const absl::StatusOr<UniqueFd> directory = OpenDirectory();
  for (int index = 0, last = 0; directory.ok() && index <= last + largest_gap_; ++index) {
    if (const auto found = Probe(directory->get(), index)) {
      if (entries.empty() || !entries.back().SameAs(*found)) {  // it moved up under our eyes
        entries.push_back(*found);
      }
      last = index;
    }
  }
  return entries;
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenNewest() const {
  for (int index = 0; index <= largest_gap_; ++index) {
    auto file = Open(index);
    if (!file.ok() || file->has_value()) {
      return file;
    }
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenOldest() const {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::vector<Entry> entries = List();
    if (entries.empty()) {
      return Open(0);  // for its error, if it has one
    }
    const auto index = Find(entries.back());
    if (!index) {
      continue;
    }
    auto file = Open(*index);
    if (!file.ok() || (file->has_value() && (*file)->entry.SameAs(entries.back()))) {
      return file;
    }
  }
  return OpenNewest();
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenOlder(const Entry& of) const {
  return OpenNeighbour(of, false);
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenNewer(const Entry& of) const {
  return OpenNeighbour(of, true);
}

absl::StatusOr<std::optional<LogChain::File>> LogChain::OpenNeighbour(const Entry& of, bool newer) const {
  const absl::StatusOr<UniqueFd> opened = OpenDirectory();
  if (!opened.ok()) {
    return absl::IsNotFound(opened.status()) ? absl::StatusOr<std::optional<File>>(std::nullopt) : opened.status();
  }
  const int directory = opened->get();
  const int step = newer ? -1 : 1;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto here = FindIn(directory, of);
    if (!here) {
      return std::nullopt;
    }
    const int end = newer ? -1 : *here + largest_gap_;
    int index = *here + step;
    std::optional<File> found;
    for (; index != end; index += step) {
      auto file = OpenIn(directory, index);
      if (!file.ok()) {
        return file.status();
      }
      if (file->has_value()) {
        found = *std::move(file);
        break;
      }
    }
    // Had a rotation moved anything past us meanwhile, `of` would have moved, or a number that was free would be taken.
    bool undisturbed = FindIn(directory, of) == here;
    for (int between = *here + step; undisturbed && found && between != index; between += step) {
      undisturbed = !Probe(directory, between);
    }
    if (undisturbed) {
      return found;
    }
  }
  return std::nullopt;
}

}  // namespace supervisor
