#include "daemon/logs/last_lines.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "common/errno_status.h"
#include "daemon/logs/gzip_log.h"

namespace supervisor {
namespace {

constexpr uint64_t kBlockBytes = 64u << 10;

// The bytes [start, start + size), fewer where the file was truncated meanwhile.
absl::StatusOr<std::string> ReadBlock(const std::string& name, int fd, uint64_t start, uint64_t size) {
  std::string block(size, '\0');
  const ssize_t got = pread(fd, block.data(), block.size(), static_cast<off_t>(start));
  if (got < 0) {
    return ErrnoToStatus(errno, fmt::format("log file {}", name));
  }
  block.resize(static_cast<size_t>(got));
  return block;
}

absl::StatusOr<std::optional<uint64_t>> SearchPlain(const std::string& name, const LogChain::File& file,
                                                    const LogRange& range, LastLines& lines) {
  std::string behind;  // of the line whose start is not found yet: what lies behind the block
  bool ends_last_line = lines.at_log_end || lines.matches;
  for (uint64_t end = range.to; end > range.from;) {
    const uint64_t start = end - std::min(end - range.from, kBlockBytes);
    const auto block = ReadBlock(name, file.fd.get(), start, end - start);
    if (!block.ok()) {
      return block.status();
    }
    size_t length = block->size();
    if (ends_last_line && length > 0) {
      length -= block->back() == '\n' ? 1 : 0;
      lines.at_log_end = ends_last_line = false;
    }
    size_t line_end = length;
    while (const void* hit = memrchr(block->data(), '\n', length)) {
      length = static_cast<size_t>(static_cast<const char*>(hit) - block->data());
      const std::string_view line(block->data() + length + 1, line_end - length - 1);
      const bool counts = !lines.matches || lines.matches(behind.empty() ? line : std::string(line) + behind);
      behind.clear();
      line_end = length;
      if (counts && --lines.wanted == 0) {
        return start + length + 1;
      }
    }
    if (lines.matches && behind.size() < kLongestLine) {
      behind.insert(0, *block, 0, line_end);
    }
    end = start;
  }
  // The first line has no line end before it, and no older file holds a part of it: lines are not cut.
  if (lines.matches && range.to > range.from && lines.matches(behind) && --lines.wanted == 0) {
    return range.from;
  }
  return std::nullopt;
}

// Calls visit(bytes) for all that the file holds before `to`, until it answers false.
template <typename Visit>
absl::Status ForEachBlock(const std::string& name, const LogChain::File& file, uint64_t to, Visit visit) {
  UniqueFd again(fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!again) {
    return ErrnoToStatus(errno, fmt::format("log file {}", name));
  }
  auto reader = GzipReader::Open(std::move(again), name);
  if (!reader.ok()) {
    return reader.status();
  }
  while (to > 0) {
    const absl::StatusOr<std::string> block = (*reader)->Read(std::min(kBlockBytes, to));
    if (!block.ok()) {
      return block.status();
    }
    if (block->empty() || !visit(std::string_view(*block))) {
      break;
    }
    to -= block->size();
  }
  return absl::OkStatus();
}

// Calls visit(offset of the line after it) for each line end in the range, and with a matcher only for those before
// lines that match (then for the file's first line too), until it answers false.
template <typename Visit>
absl::Status ForEachLineStart(const std::string& name, const LogChain::File& file, const LogRange& range,
                              const LineMatcher& matches, char* last, Visit visit) {
  uint64_t at = 0;
  uint64_t line_start = 0;
  std::string line;
  bool go_on = true;
  const auto ended = [&](uint64_t next_start) {
    if (!matches) {
      go_on = next_start <= range.from || visit(next_start);
    } else if (line_start >= range.from && matches(line)) {
      go_on = visit(line_start);
    }
    line.clear();
    line_start = next_start;
  };
  absl::Status read = ForEachBlock(name, file, range.to, [&](std::string_view block) {
    *last = block.back();
    for (size_t begin = 0; go_on && begin < block.size();) {
      const size_t end = block.find('\n', begin);
      if (matches && line.size() < kLongestLine) {
        line += block.substr(begin, end == std::string_view::npos ? end : end - begin);
      }
      if (end == std::string_view::npos) {
        break;
      }
      begin = end + 1;
      ended(at + begin);
    }
    at += block.size();
    return go_on;
  });
  if (read.ok() && go_on && matches && at > line_start) {
    ended(at);
  }
  return read;
}

absl::StatusOr<std::optional<uint64_t>> SearchGzip(const std::string& name, const LogChain::File& file,
                                                   const LogRange& range, LastLines& lines) {
  uint64_t found = 0;
  char last = '\0';
  absl::Status counted = ForEachLineStart(name, file, range, lines.matches, &last, [&](uint64_t) {
    ++found;
    return true;
  });
  if (!counted.ok()) {
    return counted;
  }
  const bool empty = range.to <= range.from;
  if (lines.at_log_end && !lines.matches && last == '\n' && found > 0) {
    --found;
  }
  lines.at_log_end = lines.at_log_end && empty;
  if (found < lines.wanted) {
    lines.wanted -= found;
    return std::nullopt;
  }
  uint64_t to_pass = found - lines.wanted + 1;
  uint64_t offset = 0;
  counted = ForEachLineStart(name, file, range, lines.matches, &last, [&](uint64_t start) {
    offset = start;
    return --to_pass > 0;
  });
  if (!counted.ok()) {
    return counted;
  }
  return offset;
}

absl::StatusOr<uint64_t> PlainLineStart(const std::string& name, const LogChain::File& file, uint64_t offset) {
  const uint64_t start = offset - std::min<uint64_t>(offset, kLongestLine);
  for (uint64_t end = offset; end > start;) {
    const uint64_t begin = end - std::min(end - start, kBlockBytes);
    const auto block = ReadBlock(name, file.fd.get(), begin, end - begin);
    if (!block.ok()) {
      return block.status();
    }
    if (const size_t hit = block->rfind('\n'); hit != std::string::npos) {
      return begin + hit + 1;
    }
    end = begin;
  }
  return start == 0 ? 0 : offset;
}

absl::StatusOr<uint64_t> PlainLineEnd(const std::string& name, const LogChain::File& file, uint64_t offset) {
  for (uint64_t begin = offset - std::min<uint64_t>(offset, 1); begin < offset + kLongestLine;) {
    const auto block = ReadBlock(name, file.fd.get(), begin, kBlockBytes);
    if (!block.ok()) {
      return block.status();
    }
    if (const size_t hit = block->find('\n'); hit != std::string::npos) {
      return begin + hit + 1;
    }
    if (block->empty()) {
      return begin;
    }
    begin += block->size();
  }
  return offset;
}

absl::StatusOr<LogRange> AlignGzip(const std::string& name, const LogChain::File& file, const LogRange& range) {
  LogRange aligned{.from = 0, .to = range.to};
  char last = '\0';
  const LogRange all{.from = 0, .to = file.entry.size};
  absl::Status read = ForEachLineStart(name, file, all, nullptr, &last, [&](uint64_t start) {
    if (start <= range.from) {
      aligned.from = start;
    }
    aligned.to = start;
    return start < range.to;
  });
  if (!read.ok()) {
    return read;
  }
  aligned.to = aligned.to < range.to ? file.entry.size : aligned.to;  // in a last line without an end
  return aligned;
}

}  // namespace

absl::StatusOr<std::optional<uint64_t>> FindLastLines(const LogChain& chain, const LogChain::File& file,
                                                      const LogRange& range, LastLines& lines) {
  const std::string name = chain.NameOf(file);
  return file.entry.gzip ? SearchGzip(name, file, range, lines) : SearchPlain(name, file, range, lines);
}

absl::StatusOr<LogRange> AlignToLines(const LogChain& chain, const LogChain::File& file, const LogRange& range) {
  const std::string name = chain.NameOf(file);
  LogRange aligned = range;
  const bool cut_at_start = range.from > 0 && range.from < file.entry.size;
  const bool cut_at_end = range.to > 0 && range.to < file.entry.size;
  if (file.entry.gzip) {
    return cut_at_start || cut_at_end ? AlignGzip(name, file, range) : aligned;
  }
  if (cut_at_start) {
    const auto start = PlainLineStart(name, file, range.from);
    if (!start.ok()) {
      return start.status();
    }
    aligned.from = *start;
  }
  if (cut_at_end) {
    const auto end = PlainLineEnd(name, file, range.to);
    if (!end.ok()) {
      return end.status();
    }
    aligned.to = *end;
  }
  return aligned;
}

}  // namespace supervisor
