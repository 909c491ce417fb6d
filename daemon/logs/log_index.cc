#include "daemon/logs/log_index.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/careful_path.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr std::string_view kMagic = "SVI1";
constexpr size_t kSumAt = 28;

uint32_t Crc(const char* bytes, size_t count) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const unsigned char*>(bytes), static_cast<uInt>(count)));
}

void PutNumber(char* to, uint64_t value, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    to[i] = static_cast<char>(value >> (8 * i));
  }
}

uint64_t GetNumber(const char* from, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i > 0; --i) {
    value = value << 8 | static_cast<unsigned char>(from[i - 1]);
  }
  return value;
}

std::string ReadIndex(int directory, const std::string& name) {
  std::string bytes;
  const UniqueFd fd(openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  const auto facts = fd ? FactsOf(fd.get()) : std::nullopt;
  if (!facts || !facts->regular || facts->size > kLargestIndex) {
    return bytes;
  }
  bytes.resize(facts->size);
  const ssize_t got = pread(fd.get(), bytes.data(), bytes.size(), 0);
  bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return bytes;
}

}  // namespace

uint32_t FileTag(const FileId& id) {
  char bytes[16];
  PutNumber(bytes, id.inode, 8);
  PutNumber(bytes + 8, static_cast<uint64_t>(id.born_ns), 8);
  return Crc(bytes, sizeof bytes);
}

std::string IndexName(const std::string& base) { return "." + base + ".index"; }

std::string IndexTempName(const std::string& base) { return "." + base + ".index.tmp"; }

void AppendRecord(std::string& bytes, const LogIndexRecord& record) {
  char out[kIndexRecordBytes];
  std::memcpy(out, kMagic.data(), kMagic.size());
  PutNumber(out + 4, record.span_ms, 4);
  PutNumber(out + 8, static_cast<uint64_t>(record.first_ms), 8);
  PutNumber(out + 16, record.offset, 8);
  PutNumber(out + 24, record.tag, 4);
  PutNumber(out + kSumAt, Crc(out, kSumAt), 4);
  bytes.append(out, sizeof out);
}

std::vector<LogIndexRecord> ParseRecords(std::string_view bytes) {
  std::vector<LogIndexRecord> records;
  records.reserve(bytes.size() / kIndexRecordBytes);
  size_t at = 0;
  while (at + kIndexRecordBytes <= bytes.size()) {
    const char* from = bytes.data() + at;
    if (bytes.substr(at, kMagic.size()) != kMagic || GetNumber(from + kSumAt, 4) != Crc(from, kSumAt)) {
      at = std::min(bytes.find(kMagic, at + 1), bytes.size());
      continue;
    }
    records.push_back({.first_ms = static_cast<int64_t>(GetNumber(from + 8, 8)),
                       .span_ms = static_cast<uint32_t>(GetNumber(from + 4, 4)),
                       .offset = GetNumber(from + 16, 8),
                       .tag = static_cast<uint32_t>(GetNumber(from + 24, 4))});
    at += kIndexRecordBytes;
  }
  return records;
}

std::vector<LogIndexRecord> ThinRecords(const std::vector<LogIndexRecord>& records, const std::vector<uint32_t>& alive,
                                        size_t wanted) {
  std::vector<LogIndexRecord> kept;
  kept.reserve(records.size());
  std::copy_if(records.begin(), records.end(), std::back_inserter(kept), [&](const LogIndexRecord& record) {
    return std::find(alive.begin(), alive.end(), record.tag) != alive.end();
  });
  if (kept.size() <= wanted) {
    return kept;
  }
  constexpr int64_t kLongestSpan = std::numeric_limits<uint32_t>::max();
  const size_t old = kept.size() / 2;
  std::vector<LogIndexRecord> thinned;
  for (size_t i = 0; i < kept.size(); ++i) {
    thinned.push_back(kept[i]);
    if (i + 1 >= old) {
      continue;
    }
    LogIndexRecord& one = thinned.back();
    const LogIndexRecord& two = kept[i + 1];
    const int64_t first = std::min(one.first_ms, two.first_ms);
    const int64_t last = std::max(one.first_ms + one.span_ms, two.first_ms + two.span_ms);
    if (one.tag == two.tag && one.offset < two.offset && last - first <= kLongestSpan) {
      one.first_ms = first;
      one.span_ms = static_cast<uint32_t>(last - first);
      ++i;
    }
  }
  return thinned;
}

LogTimes LogTimes::Read(const std::string& log_path) {
  const size_t slash = log_path.rfind('/');
  const size_t base = slash == std::string::npos ? 0 : slash + 1;
  const absl::StatusOr<UniqueFd> directory = OpenDirectoryCarefully(base == 0 ? "." : log_path.substr(0, base));
  if (!directory.ok()) {
    return {};
  }
  return Of(ParseRecords(ReadIndex(directory->get(), IndexName(log_path.substr(base)))));
}

LogTimes LogTimes::Of(const std::vector<LogIndexRecord>& records) {
  LogTimes times;
  for (const LogIndexRecord& record : records) {
    std::vector<LogSpan>& spans = times.spans_[record.tag];
    while (!spans.empty() && spans.back().offset >= record.offset) {
      spans.pop_back();
    }
    spans.push_back(
        {.offset = record.offset, .first_ms = record.first_ms, .last_ms = record.first_ms + record.span_ms});
  }
  return times;
}

std::vector<LogSpan> LogTimes::SpansOf(const FileId& id, int64_t modified_ms) const {
  const int64_t born_ms = id.born_ns / 1'000'000;
  const auto found = spans_.find(FileTag(id));
  if (found == spans_.end()) {
    return {{.offset = 0, .first_ms = std::min(born_ms, modified_ms), .last_ms = modified_ms}};
  }
  const std::vector<LogSpan>& known = found->second;
  std::vector<LogSpan> spans;
  spans.reserve(known.size() + 1);
  if (known.front().offset > 0) {
    const int64_t known_ms = known.front().first_ms;
    spans.push_back({.offset = 0, .first_ms = std::min(born_ms, known_ms), .last_ms = known_ms});
  }
  std::copy(known.begin(), known.end(), std::back_inserter(spans));
  // Should bytes have come of which no record tells, they came last.
  spans.back().last_ms = std::max(spans.back().last_ms, modified_ms);
  return spans;
}

LogRange RangeOf(const std::vector<LogSpan>& spans, uint64_t size, std::optional<int64_t> since_ms,
                 std::optional<int64_t> until_ms) {
  LogRange range{.from = 0, .to = size};
  if (since_ms) {
    const auto first =
        std::find_if(spans.begin(), spans.end(), [&](const LogSpan& span) { return span.last_ms >= *since_ms; });
    range.from = first == spans.end() ? size : std::min(first->offset, size);
  }
  if (until_ms) {
    const auto after =
        std::find_if(spans.begin(), spans.end(), [&](const LogSpan& span) { return span.first_ms > *until_ms; });
    range.to = after == spans.end() ? size : std::min(after->offset, size);
  }
  range.from = std::min(range.from, range.to);
  return range;
}

}  // namespace supervisor
