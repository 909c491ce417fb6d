#include "daemon/logs/capture.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "common/errno_status.h"
#include "common/time_format.h"
#include "daemon/logs/rotation_rule.h"

namespace supervisor {
namespace {

constexpr absl::Duration kCheckEvery = absl::Seconds(1);
constexpr absl::Duration kRotateAgainAfter = absl::Seconds(1);
constexpr uint64_t kCopyBytes = 64u << 10;
constexpr uint64_t kResyncBytes = 64u << 10;  // a stream without line ends goes on in the midst of a line

}  // namespace

Capture::Capture(PipePeek& peek, const LogStreamOptions& options)
    : peek_(peek), options_(options), file_(options.file_path) {
  SetOptions(options);
}

void Capture::SetOptions(const LogStreamOptions& options) {
  options_ = options;
  if (options.fifo_uid != static_cast<uid_t>(-1)) {
    file_.SetServiceUser(options.fifo_uid);
  }
  file_.SetAccess(options.file_access);
}

Capture::Result Capture::Turn(const Fifo& fifo, uint64_t budget, MonoTime now) {
  Result result;
  while (budget > 0) {
    const uint64_t waiting = fifo.WaitingBytes();
    result.waiting = std::max(result.waiting, waiting);
    if (waiting == 0) {
      break;
    }
    const std::optional<uint64_t> size = EnsureFile(now, result);
    if (!size || (resync_ && !Resync(fifo, *size, result))) {
      break;
    }
    const std::optional<uint64_t> moved = Step(fifo, *size, waiting, budget, now, result);
    if (!moved) {
      continue;
    }
    result.moved += *moved;
    if (*moved > 0) {
      index_.Wrote();
    }
    budget -= std::min(budget, *moved);
    if (!result.status.ok() || *moved == 0 || *moved >= waiting) {
      break;
    }
  }
  return result;
}

std::optional<uint64_t> Capture::EnsureFile(MonoTime now, Result& result) {
  if (file_.is_open()) {
    if (const auto facts = file_.Facts(); !facts || facts->links == 0) {
      file_.Close();
      lost_ = true;
      result.deleted = true;
      return std::nullopt;
    }
  }
  if (!file_.is_open() || now - checked_at_ >= kCheckEvery) {
    result.status = Check(now);
  }
  const auto facts = file_.is_open() ? file_.Facts() : std::nullopt;
  if (!result.status.ok() || !facts) {
    return std::nullopt;
  }
  index_.Note(file_, *facts, now);
  return facts->size;
}

absl::Status Capture::Check(MonoTime now) {
  checked_at_ = now;
  if (file_.is_open() && !file_.InPlace()) {
    file_.Close();
    lost_ = true;
  }
  return file_.is_open() ? absl::OkStatus() : Reopen(now);
}

absl::Status Capture::Reopen(MonoTime now) {
  checked_at_ = now;
  stamper_.Forget();
  write_error_ = 0;
  const FileId directory = file_.directory_id();
  absl::Status opened = file_.Open();
  if (!(file_.directory_id() == directory)) {
    index_.Close();
  }
  if (opened.ok()) {
    remade_ += std::exchange(lost_, false) ? 1 : 0;
  }
  return opened;
}

bool Capture::MayWork() const {
  if (write_error_ != ENOSPC && write_error_ != EDQUOT) {
    return write_error_ == 0;
  }
  const auto facts = file_.is_open() ? file_.Facts() : std::nullopt;
  return facts && file_.HasRoom(facts->size);
}

uint64_t Capture::SizeLimit(MonoTime now) const {
  return now < rotate_again_at_ ? 0 : options_.max_size_bytes;  // while rotation fails, nothing is lost for it
}

void Capture::Rotate(MonoTime now, Result& result) {
  if (const absl::Status rotated = file_.Rotate(options_.max_files); !rotated.ok()) {
    rotation_error_ = std::string(rotated.message());
    rotate_again_at_ = now + kRotateAgainAfter;
  } else {
    rotation_error_.clear();
    stamper_.Forget();
    ++result.rotations;
  }
}

// Moves once, and returns the bytes moved; or rotates, if it can, and returns nothing: then the next step is another.
std::optional<uint64_t> Capture::Step(const Fifo& fifo, uint64_t size, uint64_t waiting, uint64_t budget, MonoTime now,
                                      Result& result) {
  if (options_.timestamps || splice_refused_) {
    return CopyStep(fifo, size, budget, now, result);
  }
  AppendStep step = PlanAppend(size, waiting, budget, SizeLimit(now));
  if (step.kind == AppendStep::Kind::kPeek) {
    const std::string_view window = peek_.Peek(fifo.read_end(), step.bytes);
    step = PlanPeeked(size, window, SizeLimit(now), file_.AtLineStart(size));
    if (step.kind == AppendStep::Kind::kAppend && step.bytes == 0) {
      step.bytes = std::min(waiting, budget);  // no pipe to look with: the line's end is not found, the bytes are kept
    }
  }
  if (step.kind == AppendStep::Kind::kRotate) {
    Rotate(now, result);
    return std::nullopt;
  }
  const LogFile::Moved moved = file_.SpliceFrom(fifo.read_end(), step.bytes, size);
  if (moved.error == EINVAL) {
    splice_refused_ = true;
    return CopyStep(fifo, size, budget, now, result);
  }
  NoteWrite(moved, result);
  return moved.bytes;
}

void Capture::NoteWrite(const LogFile::Moved& moved, Result& result) {
  write_error_ = moved.error;
  if (moved.error != 0) {
    result.status = ErrnoToStatus(moved.error, fmt::format("log file {}", options_.file_path));
  }
}

std::optional<uint64_t> Capture::CopyStep(const Fifo& fifo, uint64_t size, uint64_t budget, MonoTime now,
                                          Result& result) {
  const std::string_view window = peek_.Peek(fifo.read_end(), std::min(budget, kCopyBytes));
  if (window.empty()) {
    result.status = ErrnoToStatus(EMFILE, fmt::format("log file {}: no pipe to look at the output with", file_.path()));
    return 0;
  }
  const std::string prefix = options_.timestamps ? FormatTimestamp(WallNow()) + " " : std::string();
  const uint64_t limit = SizeLimit(now);
  const bool at_line_start = file_.AtLineStart(size);
  uint64_t room = std::numeric_limits<uint64_t>::max();
  if (limit != 0) {
    room = size < limit ? limit - size : 0;
  }
  std::string_view out = stamper_.Stamp(window, prefix, at_line_start, room, false);
  if (out.empty()) {
    if ((at_line_start && size > 0) || size >= limit + kLineSlackBytes) {
      Rotate(now, result);
      return std::nullopt;
    }
    out = stamper_.Stamp(window, prefix, at_line_start, 0, true);
  }
  const LogFile::Moved written = file_.Write(out, size);
  const uint64_t raw = stamper_.Written(written.bytes);
  NoteWrite(written, result);
  return Discard(fifo, raw);
}

// Takes bytes out of the FIFO; returns how many there were to take.
uint64_t Capture::Discard(const Fifo& fifo, uint64_t bytes) {
  std::array<char, 64u << 10> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): read(2) fills it
  uint64_t taken = 0;
  while (taken < bytes) {
    const ssize_t n = read(fifo.read_end(), buffer.data(), std::min<uint64_t>(buffer.size(), bytes - taken));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      break;
    }
    taken += static_cast<uint64_t>(n);
    stream_at_line_start_ = buffer[static_cast<size_t>(n) - 1] == '\n';
  }
  return taken;
}

Capture::Result Capture::Drop(const Fifo& fifo, uint64_t budget) {
  Result result;
  result.waiting = fifo.WaitingBytes();
  result.dropped = Discard(fifo, budget);
  if (result.dropped > 0) {
    resync_ = true;
    resync_dropped_ = 0;
    stamper_.Forget();
  }
  return result;
}

// Drops what is left of a line that has lost bytes. False: no line end yet.
bool Capture::Resync(const Fifo& fifo, uint64_t size, Result& result) {
  const std::string_view window = peek_.Peek(fifo.read_end(), kResyncBytes);
  const auto skip = BytesToSkip(window, file_.AtLineStart(size), stream_at_line_start_);
  const uint64_t dropped = Discard(fifo, skip.value_or(window.size()));
  result.dropped += dropped;
  resync_dropped_ += dropped;
  resync_ = !skip && !window.empty() && resync_dropped_ < kResyncBytes;
  return !resync_ && fifo.WaitingBytes() > 0;
}

}  // namespace supervisor
