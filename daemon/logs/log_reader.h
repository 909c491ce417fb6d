#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "daemon/logs/log_chain.h"

namespace supervisor {

class GzipReader;

// Reads a log and its rotated files (<file>, <file>.1, <file>.2.gz, ... newest first) from
// disk. Knows nothing of the pump: a
// follower is an ordinary reader that is told when to look again, so a slow one disturbs nobody. Blocks on the disk:
// any thread but the loop's. One thread at a time per object.
class LogReader {
 public:
  explicit LogReader(std::string file_path);
  LogReader(LogReader&& other) noexcept;
  LogReader& operator=(LogReader&& other) noexcept;
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;
  ~LogReader();

  // Positions at the start of the last `lines` lines, over rotated files where needed, reading backwards from the
  // end: cost in proportion to what is shown. A last line without a newline counts as one.
  absl::Status SeekToLastLines(uint64_t lines);
  absl::Status SeekToStart();
  absl::Status SeekToEnd();

  // The next bytes, at most `max`; empty where there are no more yet. Goes over to the next newer file when the one
  // it reads was rotated away and is read to its end, so that nothing is left out or doubled over any number of
  // rotations; when rotation deleted files before they were read, `missed_bytes` (cumulative) grows by their size as
  // far as it is known.
  absl::StatusOr<std::string> Read(size_t max);

  uint64_t offset() const { return offset_; }  // of the next byte in its file
  uint64_t missed_bytes() const { return missed_bytes_; }

 private:
  void Forget();
  absl::Status Enter(LogChain::File file, uint64_t offset);
  void Survey();
  absl::StatusOr<std::string> ReadHere(size_t max);
  absl::StatusOr<std::optional<LogChain::File>> FindNext();
  std::optional<LogChain::File> FindNextAfterLoss();

  LogChain chain_;
  UniqueFd fd_;                       // a plain file's
  std::unique_ptr<GzipReader> gzip_;  // or this; neither: nothing was there yet
  LogChain::Entry entry_;             // what it is that we read
  uint64_t offset_ = 0;
  uint64_t missed_bytes_ = 0;
  // What was there when this file was begun, for when it is no longer among the files: which ones are older and not
  // to be read again, and how much the newer ones held.
  std::vector<LogChain::Entry> older_;
  std::vector<LogChain::Entry> newer_;
};

}  // namespace supervisor
