#include "daemon/logs/log_reader.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "common/errno_status.h"
#include "daemon/logs/gzip_log.h"

namespace supervisor {
namespace {

constexpr size_t kLargestRead = 4u << 20;
constexpr size_t kSkipBytes = 64u << 10;

// As long as the log itself is empty, bytes may still come to the file before it.
bool IsYetToBeWritten(const LogChain::File& file) { return file.index == 0 && file.entry.size == 0; }

}  // namespace

LogReader::LogReader(std::string file_path, int largest_gap) : chain_(std::move(file_path), largest_gap) {}
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
  spans_.clear();
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
  if (tell_times_) {
    spans_ = LogTimes::Read(chain_.path()).SpansOf(position().file, entry_.modified_ms);
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

absl::Status LogReader::SeekToLastLines(uint64_t lines) { return Seek({.lines = lines}); }

// Walks from the newest file to older ones: first to the one that `until` falls into, then to where the last of the
// lines or `since` does.
absl::Status LogReader::Seek(const LogSelection& selection) {
  const bool by_time = selection.since_ms || selection.until_ms;
  end_.reset();
  Forget();
  auto found = chain_.OpenNewest();
  if (!found.ok() || !found->has_value()) {
    return found.status();
  }
  if (selection.until_now && !selection.until_ms) {
    end_ = End{(*found)->entry, (*found)->entry.size};
  }
  if (!by_time && !selection.lines) {
    return SeekToStart();
  }
  const LogTimes times = by_time ? LogTimes::Read(chain_.path()) : LogTimes();
  LastLines search{.wanted = selection.lines.value_or(0), .at_log_end = true, .matches = selection.matches};
  uint64_t bytes = selection.bytes.value_or(std::numeric_limits<uint64_t>::max());
  std::optional<LogChain::File> newer;  // which is selected from its start
  for (LogChain::File file = **std::move(found);;) {
    LogRange range{.from = 0, .to = file.entry.size};
    if (by_time) {
      const FileId& id = file.entry.original ? *file.entry.original : file.entry.id;
      const auto aligned = AlignToLines(
          chain_, file,
          RangeOf(times.SpansOf(id, file.entry.modified_ms), file.entry.size, selection.since_ms, selection.until_ms));
      if (!aligned.ok()) {
        return aligned.status();
      }
      range = *aligned;
    }
    if (bytes == 0 && newer) {
      return Enter(*std::move(newer), 0);
    }
    range.from = std::max(range.from, range.to - std::min(range.to, bytes));
    bytes -= std::min(range.to - range.from, bytes);
    if (selection.until_ms && !end_ && (range.to > 0 || selection.lines == 0U)) {
      end_ = End{file.entry, range.to};
    }
    if (selection.lines == 0U) {
      return Enter(std::move(file), range.to);
    }
    if (selection.since_ms && range.from >= file.entry.size && file.entry.size > 0) {
      return newer ? Enter(*std::move(newer), 0) : Enter(std::move(file), range.from);
    }
    if (selection.lines) {
      const auto offset = FindLastLines(chain_, file, range, search);
      if (!offset.ok()) {
        return offset.status();
      }
      if (offset->has_value()) {
        return Enter(std::move(file), **offset);
      }
    }
    if (range.from > 0) {
      return Enter(std::move(file), range.from);
    }
    auto older = chain_.OpenOlder(file.entry);
    if (!older.ok()) {
      return older.status();
    }
    if (!older->has_value()) {
      if (selection.until_ms && !end_) {
        end_ = End{file.entry, 0};
      }
      return Enter(std::move(file), 0);
    }
    newer = std::move(file);
    file = **std::move(older);
  }
}

absl::StatusOr<bool> LogReader::SeekAfter(const LogPosition& position) {
  Forget();
  end_.reset();
  if (position.file.inode == 0) {
    const absl::Status begun = SeekToStart();
    return begun.ok() ? absl::StatusOr<bool>(true) : begun;
  }
  const LogChain::Entry wanted{.id = position.file, .original = position.file};
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto index = chain_.Find(wanted);
    auto file = index ? chain_.Open(*index) : std::nullopt;
    if (!file.ok()) {
      return file.status();
    }
    if (file->has_value() && (*file)->entry.SameAs(wanted)) {
      const bool truncated = !(*file)->entry.gzip && (*file)->entry.size < position.offset;
      const absl::Status entered = Enter(**std::move(file), truncated ? 0 : position.offset);
      return entered.ok() ? absl::StatusOr<bool>(!truncated) : entered;
    }
    if (!index) {
      break;
    }
  }
  // Deleted, or renamed to a name that is none of a rotated log: what was born before it was read before it.
  std::vector<LogChain::Entry> entries = chain_.List();
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    const FileId& id = entry->original ? *entry->original : entry->id;
    const auto index = id.born_ns == 0 || id.born_ns > position.file.born_ns ? chain_.Find(*entry) : std::nullopt;
    auto file = index ? chain_.Open(*index) : std::nullopt;
    if (file.ok() && file->has_value() && (*file)->entry.SameAs(*entry)) {
      const absl::Status entered = Enter(**std::move(file), 0);
      return entered.ok() ? absl::StatusOr<bool>(false) : entered;
    }
  }
  const absl::Status at_end = SeekToEnd();
  return at_end.ok() ? absl::StatusOr<bool>(false) : at_end;
}

void LogReader::TellTimes() { tell_times_ = true; }

// Notes the time of the next byte; returns how many of `max` bytes have the same.
uint64_t LogReader::FindTime(uint64_t max) {
  const auto after = std::upper_bound(spans_.begin(), spans_.end(), offset_,
                                      [](uint64_t offset, const LogSpan& span) { return offset < span.offset; });
  const bool known = after != spans_.begin() && offset_ < entry_.size;
  read_time_ms_ = known ? std::optional((after - 1)->first_ms) : std::nullopt;
  if (after != spans_.end()) {
    max = std::min(max, after->offset - offset_);
  }
  return known && !gzip_ ? std::min(max, entry_.size - offset_) : max;
}

void LogReader::Release() {
  if (const auto facts = fd_ ? FactsOf(fd_.get()) : std::nullopt) {
    released_size_ = facts->size;
    fd_.Reset();
  }
}

// Nothing is open: because nothing was there yet, or after Release.
absl::Status LogReader::Begin() { return entry_.id.inode == 0 ? SeekToStart() : Reopen(); }

absl::Status LogReader::Reopen() {
  const LogChain::Entry wanted = entry_;
  const uint64_t offset = offset_;
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto index = chain_.Find(wanted);
    auto file = index ? chain_.Open(*index) : std::nullopt;
    if (!file.ok()) {
      return file.status();
    }
    if (file->has_value() && (*file)->entry.SameAs(wanted)) {
      if ((*file)->entry.gzip) {
        return Enter(**std::move(file), offset);
      }
      fd_ = std::move((*file)->fd);
      return absl::OkStatus();
    }
    if (!index) {
      break;
    }
  }
  if (end_ && (end_->entry.SameAs(wanted) || !chain_.Find(end_->entry))) {
    return absl::OkStatus();  // what was wanted is gone
  }
  const uint64_t unread = released_size_ - std::min(released_size_, offset);
  auto next = FindNextAfterLoss();
  if (!next || IsYetToBeWritten(*next)) {
    return absl::OkStatus();
  }
  missed_bytes_ += unread;
  return Enter(*std::move(next), 0);
}

absl::StatusOr<std::string> LogReader::Read(size_t max) {
  max = std::min(max, kLargestRead);
  while (max > 0) {
    if (!fd_ && !gzip_) {
      if (const absl::Status begun = Begin(); !begun.ok() || (!fd_ && !gzip_)) {
        return begun.ok() ? absl::StatusOr<std::string>(std::string()) : begun;
      }
    }
    absl::StatusOr<std::string> bytes = ReadHere(max);
    if (!bytes.ok() || !bytes->empty()) {
      return bytes;
    }
    if (end_ && end_->entry.SameAs(entry_)) {
      break;
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
  if (end_ && end_->entry.SameAs(entry_)) {
    max = std::min<uint64_t>(max, end_->offset - std::min(end_->offset, offset_));
  }
  if (tell_times_) {
    max = FindTime(max);
  }
  if (max == 0) {
    return std::string();
  }
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
    if (end_ && !chain_.Find(end_->entry)) {
      return std::nullopt;  // what was wanted is gone
    }
    next = FindNextAfterLoss();
  }
  if (next.ok() && next->has_value() && IsYetToBeWritten(**next)) {
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
  if (!IsYetToBeWritten(**file)) {
    CountLoss(**file);
  }
  return **std::move(file);
}

// Ours has gone, and reading goes on with `next`: what lay between?
void LogReader::CountLoss(const LogChain::File& next) {
  auto seen = newer_.rbegin();
  for (; seen != newer_.rend() && !seen->SameAs(next.entry); ++seen) {
    missed_bytes_ += seen->size;
  }
  // A file that was not there when ours was begun need not be the first after those that were. The log itself is: its
  // predecessor was renamed to a foreign name, or deleted by a rotation that keeps none, which happens to each file.
  if (seen == newer_.rend() && next.index > 0) {
    ++unknown_gaps_;
  }
  newer_.clear();
}

}  // namespace supervisor
