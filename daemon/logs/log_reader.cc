#include "daemon/logs/log_reader.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/errno_status.h"
#include "daemon/logs/gzip_log.h"
#include "daemon/logs/last_lines.h"

namespace supervisor {
namespace {

constexpr size_t kLargestRead = 4u << 20;
constexpr size_t kSkipBytes = 64u << 10;

}  // namespace

LogReader::LogReader(std::string file_path) : chain_(std::move(file_path)) {}
LogReader::LogReader(LogReader&& other) noexcept = default;
LogReader& LogReader::operator=(LogReader&& other) noexcept = default;
LogReader::~LogReader() = default;

void LogReader::Forget() {
  fd_.Reset();
  gzip_.reset();
  entry_ = {};
  offset_ = 0;
  older_.clear();
  newer_.clear();
}

absl::Status LogReader::Enter(LogChain::File file, uint64_t offset) {
  Forget();
  entry_ = file.entry;
  if (file.entry.gzip) {
    auto reader = GzipReader::Open(std::move(file.fd), chain_.NameOf(file));
    if (!reader.ok()) {
      return reader.status();
    }
    gzip_ = *std::move(reader);
    while (offset_ < offset) {
      const absl::StatusOr<std::string> skipped = ReadHere(std::min<uint64_t>(offset - offset_, kSkipBytes));
      if (!skipped.ok() || skipped->empty()) {
        return skipped.status();
      }
    }
  } else {
    fd_ = std::move(file.fd);
    offset_ = offset;
  }
  Survey();
  return absl::OkStatus();
}

// Notes which files are older and which newer than ours.
void LogReader::Survey() {
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto here = chain_.Find(entry_);
    std::vector<LogChain::Entry> entries = chain_.List();
    const auto ours = std::find_if(entries.begin(), entries.end(),
                                   [this](const LogChain::Entry& entry) { return entry.SameAs(entry_); });
    if (!here || ours == entries.end()) {
      return;  // gone already: what was noted before stays
    }
    if (chain_.Find(entry_) == here) {
      newer_.assign(entries.begin(), ours);
      older_.assign(ours + 1, entries.end());
      return;
    }
  }
}

absl::Status LogReader::SeekToStart() {
  Forget();
  auto oldest = chain_.OpenOldest();
  if (!oldest.ok() || !oldest->has_value()) {
    return oldest.status();
  }
  return Enter(**std::move(oldest), 0);
}

absl::Status LogReader::SeekToEnd() {
  Forget();
  auto newest = chain_.OpenNewest();
  if (!newest.ok() || !newest->has_value()) {
    return newest.status();
  }
  const uint64_t end = (*newest)->entry.size;
  return Enter(**std::move(newest), end);
}

absl::Status LogReader::SeekToLastLines(uint64_t lines) {
  if (lines == 0) {
    return SeekToEnd();
  }
  Forget();
  auto found = chain_.OpenNewest();
  if (!found.ok() || !found->has_value()) {
    return found.status();
  }
  LogChain::File file = **std::move(found);
  LastLines search{.wanted = lines};
  for (;;) {
    const auto offset = FindLastLines(chain_, file, search);
    if (!offset.ok()) {
      return offset.status();
    }
    if (offset->has_value()) {
      return Enter(std::move(file), **offset);
    }
    auto older = chain_.OpenOlder(file.entry);
    if (!older.ok()) {
      return older.status();
    }
    if (!older->has_value()) {
      return Enter(std::move(file), 0);
    }
    file = **std::move(older);
  }
}

absl::StatusOr<std::string> LogReader::Read(size_t max) {
  max = std::min(max, kLargestRead);
  while (max > 0) {
    if (!fd_ && !gzip_) {
      if (const absl::Status begun = SeekToStart(); !begun.ok() || (!fd_ && !gzip_)) {
        return begun.ok() ? absl::StatusOr<std::string>(std::string()) : begun;
      }
    }
    absl::StatusOr<std::string> bytes = ReadHere(max);
    if (!bytes.ok() || !bytes->empty()) {
      return bytes;
    }
    auto next = FindNext();
    if (!next.ok()) {
      return next.status();
    }
    if (!next->has_value()) {
      break;
    }
    // There is a newer file, with bytes, so this one is complete; but it may have grown since we saw its end.
    bytes = ReadHere(max);
    if (!bytes.ok() || !bytes->empty()) {
      return bytes;
    }
    if (absl::Status entered = Enter(**std::move(next), 0); !entered.ok()) {
      return entered;
    }
  }
  return std::string();
}

absl::StatusOr<std::string> LogReader::ReadHere(size_t max) {
  if (gzip_) {
    absl::StatusOr<std::string> bytes = gzip_->Read(max);
    offset_ += bytes.ok() ? bytes->size() : 0;
    return bytes;
  }
  std::string bytes(max, '\0');
  ssize_t got = pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset_));
  if (got == 0 && offset_ > 0) {
    const auto facts = FactsOf(fd_.get());
    if (facts && facts->size < offset_) {  // truncated by somebody: what comes is new
      offset_ = 0;
      got = pread(fd_.get(), bytes.data(), bytes.size(), 0);
    }
  }
  if (got < 0) {
    return ErrnoToStatus(errno, fmt::format("log file {}", chain_.path()));
  }
  bytes.resize(static_cast<size_t>(got));
  offset_ += static_cast<uint64_t>(got);
  return bytes;
}

// The file to go on with; nothing while ours is the newest, or the newer one has no bytes yet: as long as that is so,
// bytes may still come to ours.
absl::StatusOr<std::optional<LogChain::File>> LogReader::FindNext() {
  const auto here = chain_.Find(entry_);
  if (here == 0) {
    return std::nullopt;
  }
  absl::StatusOr<std::optional<LogChain::File>> next = std::nullopt;
  if (here) {
    next = chain_.OpenNewer(entry_);
  }
  if (!here || (next.ok() && !next->has_value() && !chain_.Find(entry_))) {
    next = FindNextAfterLoss();
  }
  if (next.ok() && next->has_value() && (*next)->index == 0 && (*next)->entry.size == 0) {
    return std::nullopt;
  }
  return next;
}

// Ours was deleted or renamed to a name that is none of a rotated log: go on with the oldest that is newer.
std::optional<LogChain::File> LogReader::FindNextAfterLoss() {
  std::vector<LogChain::Entry> entries = chain_.List();
  const auto known = std::find_if(entries.begin(), entries.end(), [this](const LogChain::Entry& entry) {
    return std::any_of(older_.begin(), older_.end(), [&](const LogChain::Entry& old) { return old.SameAs(entry); });
  });
  if (known == entries.begin()) {
    return std::nullopt;
  }
  const LogChain::Entry& chosen = *(known - 1);
  const auto index = chain_.Find(chosen);
  auto file = index ? chain_.Open(*index) : std::nullopt;
  if (!file.ok() || !file->has_value() || !(*file)->entry.SameAs(chosen)) {
    return std::nullopt;  // rotated meanwhile: the next call finds what is there then
  }
  if (chosen.size > 0) {
    for (auto lost = newer_.rbegin(); lost != newer_.rend() && !lost->SameAs(chosen); ++lost) {
      missed_bytes_ += lost->size;
    }
    newer_.clear();
  }
  return **std::move(file);
}

}  // namespace supervisor
