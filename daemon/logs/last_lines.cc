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

absl::StatusOr<std::optional<uint64_t>> SearchPlain(const std::string& name, const LogChain::File& file,
                                                    LastLines& lines) {
  std::string block;
  for (uint64_t end = file.entry.size; end > 0;) {
    const uint64_t start = end - std::min(end, kBlockBytes);
    block.resize(end - start);
    const ssize_t got = pread(file.fd.get(), block.data(), block.size(), static_cast<off_t>(start));
    if (got < 0) {
      return ErrnoToStatus(errno, fmt::format("log file {}", name));
    }
    size_t length = static_cast<size_t>(got);  // shorter: truncated meanwhile
    if (lines.at_log_end && length > 0) {
      length -= block[length - 1] == '\n' ? 1 : 0;
      lines.at_log_end = false;
    }
    while (const void* hit = memrchr(block.data(), '\n', length)) {
      length = static_cast<size_t>(static_cast<const char*>(hit) - block.data());
      if (--lines.wanted == 0) {
        return start + length + 1;
      }
    }
    end = start;
  }
  return std::nullopt;
}

// Calls visit(bytes) for all that the file holds, until it answers false.
template <typename Visit>
absl::Status ForEachBlock(const std::string& name, const LogChain::File& file, Visit visit) {
  UniqueFd again(fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!again) {
    return ErrnoToStatus(errno, fmt::format("log file {}", name));
  }
  auto reader = GzipReader::Open(std::move(again), name);
  if (!reader.ok()) {
    return reader.status();
  }
  for (;;) {
    const absl::StatusOr<std::string> block = (*reader)->Read(kBlockBytes);
    if (!block.ok()) {
      return block.status();
    }
    if (block->empty() || !visit(*block)) {
      return absl::OkStatus();
    }
  }
}

absl::StatusOr<std::optional<uint64_t>> SearchGzip(const std::string& name, const LogChain::File& file,
                                                   LastLines& lines) {
  uint64_t line_ends = 0;
  bool empty = true;
  char last = '\0';
  absl::Status counted = ForEachBlock(name, file, [&](const std::string& block) {
    line_ends += static_cast<uint64_t>(std::count(block.begin(), block.end(), '\n'));
    last = block.back();
    empty = false;
    return true;
  });
  if (!counted.ok()) {
    return counted;
  }
  if (lines.at_log_end && last == '\n') {
    --line_ends;
  }
  lines.at_log_end = lines.at_log_end && empty;
  if (line_ends < lines.wanted) {
    lines.wanted -= line_ends;
    return std::nullopt;
  }
  uint64_t to_pass = line_ends - lines.wanted + 1;
  uint64_t offset = 0;
  counted = ForEachBlock(name, file, [&](const std::string& block) {
    for (size_t at = block.find('\n'); at != std::string::npos; at = block.find('\n', at + 1)) {
      if (--to_pass == 0) {
        offset += at + 1;
        return false;
      }
    }
    offset += block.size();
    return true;
  });
  if (!counted.ok()) {
    return counted;
  }
  return offset;
}

}  // namespace

absl::StatusOr<std::optional<uint64_t>> FindLastLines(const LogChain& chain, const LogChain::File& file,
                                                      LastLines& lines) {
  const std::string name = chain.NameOf(file);
  return file.entry.gzip ? SearchGzip(name, file, lines) : SearchPlain(name, file, lines);
}

}  // namespace supervisor
