#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/file_id.h"
#include "common/unique_fd.h"
#include "daemon/logs/log_index.h"

namespace supervisor {

class LogFile;

// Writes the index of one log (log_index.h). A disk that refuses it never holds up the log: what could not be noted is
// noted, less exactly, as soon as it can be, and a warning is logged once. The pump's thread.
class LogIndexWriter {
 public:
  // Bytes that come within this time of a record's first belong to it: how exact a time is at best.
  static constexpr absl::Duration kInterval = absl::Milliseconds(100);

  // Bytes are about to be written to the end of the open file.
  void Note(const LogFile& log, const FileFacts& facts, MonoTime now);
  // They were.
  void Wrote() { wrote_ = true; }

  // Another directory may be in the log's place.
  void Close() { file_.Reset(); }

 private:
  bool IsOther(uint32_t tag, uint64_t size) const;
  bool Open(const LogFile& log);
  void LearnFile(const LogFile& log, const FileFacts& facts);
  bool Write(const LogFile& log, const LogIndexRecord& record);
  void Compact(const LogFile& log);
  void Fail(const LogFile& log);

  UniqueFd file_;
  uint64_t size_ = 0;        // of the index
  uint64_t compact_at_ = 0;  // size from which it is written anew
  bool warned_ = false;

  uint32_t tag_ = 0;  // the file of the last record; 0: none yet
  uint64_t noted_offset_ = 0;
  uint64_t last_size_ = 0;
  bool wrote_ = false;  // since the last record
  MonoTime noted_at_ = -absl::InfiniteDuration();
  MonoTime checked_at_ = -absl::InfiniteDuration();
  std::optional<LogIndexRecord> owed_;  // could not be written yet; of tag_
};

}  // namespace supervisor
