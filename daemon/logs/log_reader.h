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
#include "daemon/logs/last_lines.h"
#include "daemon/logs/log_chain.h"
#include "daemon/logs/log_index.h"

namespace supervisor {

class GzipReader;

// What of a log is wanted; each part narrows what the others leave.
struct LogSelection {
  std::optional<uint64_t> lines = {};  // the last so many lines; 0: what comes from now on
  std::optional<uint64_t> bytes = {};  // no more than the last so many, though a line be cut
  LineMatcher matches = {};  // with `lines`: how many of these; what does not match in between is read all the same
  std::optional<int64_t> since_ms = {};  // captured then or later, milliseconds since the epoch
  std::optional<int64_t> until_ms = {};  // captured then or before
  bool until_now = false;                // what is there now, though more may come while it is read
};

// A place in a log that outlives rotation, compression and the daemon.
struct LogPosition {
  FileId file;  // the uncompressed one; inode 0: before everything
  uint64_t offset = 0;
};

// Reads a log and its rotated files (<file>, <file>.1, <file>.2.gz, ... newest first) from disk. Knows nothing of the
// pump: a follower is an ordinary reader that is told when to look again, so a slow one disturbs nobody. Blocks on the
// disk: any thread but the loop's. One thread at a time per object.
class LogReader {
 public:
  explicit LogReader(std::string file_path, int largest_gap = LogChain::kLargestGap);
  LogReader(LogReader&& other) noexcept;
  LogReader& operator=(LogReader&& other) noexcept;
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;
  ~LogReader();

  // Positions where the selection begins, over rotated files where needed, reading backwards from the end: cost in
  // proportion to what is shown. With `until` Read comes to an end there. A last line without a newline counts as one.
  absl::Status Seek(const LogSelection& selection);
  absl::Status SeekToLastLines(uint64_t lines);
  absl::Status SeekToStart();
  absl::Status SeekToEnd();
  // Goes on where another reader was. False: its file is gone, so that bytes are left out, nobody knows how many; goes
  // on with the oldest byte that came later.
  absl::StatusOr<bool> SeekAfter(const LogPosition& position);

  // The next bytes, at most `max`; empty where there are no more yet. Goes over to the next newer file when the one
  // it reads was rotated away and is read to its end, so that nothing is left out or doubled over any number of
  // rotations; when rotation deleted files before they were read, `missed_bytes` (cumulative) grows by their size as
  // far as it is known, and `unknown_gaps` by one where files may be among them that it never saw.
  absl::StatusOr<std::string> Read(size_t max);

  // Holds no file open until the next Read, since a deleted one takes up the disk as long as it is open. Should the
  // file go meanwhile, what was not read of it counts as missed. (A compressed one stays open.)
  void Release();

  // From now on one Read gives bytes of one time only, as far as the index tells times apart.
  void TellTimes();
  // When the bytes that Read gave last were captured, milliseconds since the epoch; nothing where they came after their
  // file was begun to be read: just now, then. REQUIRES: TellTimes.
  std::optional<int64_t> read_time_ms() const { return read_time_ms_; }

  uint64_t offset() const { return offset_; }  // of the next byte in its file
  uint64_t missed_bytes() const { return missed_bytes_; }
  uint64_t unknown_gaps() const { return unknown_gaps_; }
  LogPosition position() const { return {entry_.original.value_or(entry_.id), offset_}; }

 private:
  void Forget();
  absl::Status Enter(LogChain::File file, uint64_t offset);
  absl::Status Begin();
  absl::Status Reopen();
  void Survey();
  absl::StatusOr<std::string> ReadHere(size_t max);
  absl::StatusOr<std::optional<LogChain::File>> FindNext();
  std::optional<LogChain::File> FindNextAfterLoss();
  void CountLoss(const LogChain::File& next);
  uint64_t FindTime(uint64_t max);

  // Where reading comes to an end for good.
  struct End {
    LogChain::Entry entry;
    uint64_t offset = 0;
  };

  LogChain chain_;
  UniqueFd fd_;                       // a plain file's
  std::unique_ptr<GzipReader> gzip_;  // or this; neither: nothing was there yet
  LogChain::Entry entry_;             // what it is that we read
  uint64_t offset_ = 0;
  uint64_t missed_bytes_ = 0;
  uint64_t unknown_gaps_ = 0;
  uint64_t released_size_ = 0;  // of the file that Release closed
  std::optional<End> end_;
  bool tell_times_ = false;
  std::vector<LogSpan> spans_;  // of our file, with tell_times_
  std::optional<int64_t> read_time_ms_;
  // What was there when this file was begun, for when it is no longer among the files: which ones are older and not
  // to be read again, and how much the newer ones held.
  std::vector<LogChain::Entry> older_;
  std::vector<LogChain::Entry> newer_;
};

}  // namespace supervisor
