#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/clock.h"
#include "daemon/logs/fifo.h"
#include "daemon/logs/line_stamper.h"
#include "daemon/logs/log_file.h"
#include "daemon/logs/log_index_writer.h"
#include "daemon/logs/log_pump.h"
#include "daemon/logs/pipe_peek.h"

namespace supervisor {

// Moves a stream's waiting bytes to its log file, a bounded amount at a time: rotates where the next byte would not
// fit, opens the file again where it was deleted or replaced, and leaves the bytes in the FIFO when the file takes
// none. Waits for nothing and retries nothing: see LogStream. The pump's thread.
//
// With splice(2) a byte is in the pipe or in the file at any instant. With `timestamps` (and on a file system without
// splice) bytes are looked at, written, and only then taken from the pipe: a process killed between the two leaves up
// to 64 KiB that the next one writes once more.
class Capture {
 public:
  struct Result {
    uint64_t moved = 0;  // bytes of the service that are in the file now
    uint64_t dropped = 0;
    uint64_t waiting = 0;  // the most that was seen in the FIFO
    uint64_t rotations = 0;
    bool deleted = false;  // the open file has lost its name: it is closed, and the next call makes a new one
    absl::Status status;   // why what is left could not be moved
  };

  Capture(PipePeek& peek, const LogStreamOptions& options);

  // Other sizes, rotation or timestamps from now on. REQUIRES: the same file.
  void SetOptions(const LogStreamOptions& options);

  Result Turn(const Fifo& fifo, uint64_t budget, MonoTime now);
  // Throws away waiting bytes. What follows is then dropped up to a line end.
  Result Drop(const Fifo& fifo, uint64_t budget);

  // Opens the file if it is not open, or if the path names another by now.
  absl::Status Check(MonoTime now);
  absl::Status Reopen(MonoTime now);
  // After a failure, with the file open: whether it is worth while to take the trouble for over although nothing
  // waits to be written. A full disk can be asked; after any other failed write only a write can tell.
  bool MayWork() const;

  const LogFile& file() const { return file_; }
  RotationLedger& ledger() { return file_.ledger(); }
  // How often another program deleted, renamed or replaced the file, and it was made anew.
  uint64_t remade() const { return remade_; }
  // Why rotation is put off although it is due; empty where it is not. The file grows meanwhile.
  const std::string& rotation_error() const { return rotation_error_; }

 private:
  std::optional<uint64_t> EnsureFile(MonoTime now, Result& result);
  bool Resync(const Fifo& fifo, uint64_t size, Result& result);
  std::optional<uint64_t> Step(const Fifo& fifo, uint64_t size, uint64_t waiting, uint64_t budget, MonoTime now,
                               Result& result);
  std::optional<uint64_t> CopyStep(const Fifo& fifo, uint64_t size, uint64_t budget, MonoTime now, Result& result);
  void Rotate(MonoTime now, Result& result);
  uint64_t SizeLimit(MonoTime now) const;
  uint64_t Discard(const Fifo& fifo, uint64_t bytes);
  void NoteWrite(const LogFile::Moved& moved, Result& result);

  PipePeek& peek_;
  LogStreamOptions options_;
  LogFile file_;
  LogIndexWriter index_;
  LineStamper stamper_;
  bool lost_ = false;  // the open file went from its place
  uint64_t remade_ = 0;
  MonoTime checked_at_ = -absl::InfiniteDuration();
  MonoTime rotate_again_at_ = -absl::InfiniteDuration();
  std::string rotation_error_;
  bool splice_refused_ = false;
  int write_error_ = 0;  // errno of the last write; 0: it went well, or the file was opened since
  // After bytes were dropped: where in a line the stream is, and how much was dropped to find the line's end.
  bool resync_ = false;
  bool stream_at_line_start_ = true;
  uint64_t resync_dropped_ = 0;
};

}  // namespace supervisor
