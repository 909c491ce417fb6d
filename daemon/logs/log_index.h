#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/file_id.h"

namespace supervisor {

// When the bytes of a log came: what `logs --since` finds its place by. One small file a log, ".web.log.index" beside
// "web.log" and hidden, for the log and all its rotated files: a record names its file by what it is, not by its name,
// so rotation and compression leave the index alone.
//
// Records of 32 bytes, little-endian, each with a checksum of its own; there is no head:
//
//    0  4  "SVI1"
//    4  4  milliseconds from the first to the last of these bytes' times
//    8  8  when the first of them was captured, milliseconds since the epoch
//   16  8  offset of the first of them in its file (uncompressed)
//   24  4  which file: FileTag
//   28  4  CRC-32 of the 28 bytes before
//
// Records are appended before the bytes are that they tell of, and never changed. So whatever is cut short by a kill or
// a full disk leaves records that are true; what is torn or foreign fails its checksum and is passed over. A record
// counts until a later one of the same file begins at the same offset or before (the file was truncated, or more came
// to be known). Losing the index loses no byte of a log: a time is then known no better than the files' own.
struct LogIndexRecord {
  int64_t first_ms = 0;
  uint32_t span_ms = 0;
  uint64_t offset = 0;
  uint32_t tag = 0;
};
inline constexpr size_t kIndexRecordBytes = 32;
inline constexpr size_t kLargestIndex = 64u << 20;  // thousands of rotated files; what is larger is none of ours

// A file as records name it. Without the device, whose number may be another after a reboot.
uint32_t FileTag(const FileId& id);

std::string IndexName(const std::string& base);      // of "web.log": ".web.log.index"
std::string IndexTempName(const std::string& base);  // while it is written anew

void AppendRecord(std::string& bytes, const LogIndexRecord& record);
// All good records, in their order; what lies between them is passed over.
std::vector<LogIndexRecord> ParseRecords(std::string_view bytes);

// Fewer records for the older half, each standing for two of before: the older, the less exact. Files that are none of
// `alive` are left out.
std::vector<LogIndexRecord> ThinRecords(const std::vector<LogIndexRecord>& records, const std::vector<uint32_t>& alive,
                                        size_t wanted);

// A stretch of a file, up to the next one's offset or the file's end, and when its bytes were captured.
struct LogSpan {
  uint64_t offset = 0;
  int64_t first_ms = 0;
  int64_t last_ms = 0;
};

// What an index says, for readers. A missing one is empty.
class LogTimes {
 public:
  // Of the log with this path. Blocks on the disk.
  static LogTimes Read(const std::string& log_path);
  static LogTimes Of(const std::vector<LogIndexRecord>& records);

  // The whole of the file, from offset 0 on: for what no record tells of, the file's own times are taken.
  std::vector<LogSpan> SpansOf(const FileId& id, int64_t modified_ms) const;

 private:
  std::map<uint32_t, std::vector<LogSpan>> spans_;
};

// The bytes of a file between two times, each bound open where it is not given. Over-inclusive by what the index does
// not know better.
struct LogRange {
  uint64_t from = 0;
  uint64_t to = 0;
};
LogRange RangeOf(const std::vector<LogSpan>& spans, uint64_t size, std::optional<int64_t> since_ms,
                 std::optional<int64_t> until_ms);

}  // namespace supervisor
