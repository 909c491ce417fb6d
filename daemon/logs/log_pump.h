#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "daemon/config/config.h"

namespace supervisor {

// Captures the services' output: one thread moves bytes from each service's FIFO to its log file with splice(2), so a
// byte is always in the pipe or in the file and never only in this process, which may be killed at any time.
//
// What waits in a FIFO lives as long as anybody has it open: the service, this process, or whoever on_fifo gives it to.
//
// Names: a "stream" is one FIFO and the file it goes to, such as "web" (stdout, merged) or "web.err".

// What the configuration says of a log file's access. What it leaves open is taken over from the file before; the first
// one belongs to this process's user, with mode 0640.
struct WantedAccess {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  std::optional<mode_t> mode = std::nullopt;
  bool operator==(const WantedAccess&) const = default;
};

struct LogStreamOptions {
  std::string fifo_path;                // below the daemon's state directory
  std::string file_path;                // <log_directory>/<id>.log
  uint64_t max_size_bytes = 50u << 20;  // 0: never rotated by size
  int max_files = 10;                   // rotated ones kept; 0: truncated instead of kept
  bool compress = false;
  bool timestamps = false;  // every line gets "YYYY-MM-DD HH:MM:SS.mmm " before it
  // Owner of the FIFO: the service's user, so that it can reopen /dev/stdout. -1: as it is, see chown(2).
  uid_t fifo_uid = static_cast<uid_t>(-1);
  gid_t fifo_gid = static_cast<gid_t>(-1);
  // Who may open it again: 0622 where nobody reaches it by its name, so that a process which a service has inherited it
  // to opens /dev/stdout under whatever uid it has since taken (proc(5), /proc/PID/fd).
  mode_t fifo_mode = 0600;
  WantedAccess file_access;
  LogForward forward = LogForward::kNone;
  std::string forward_name;  // each line goes behind it
  bool operator==(const LogStreamOptions&) const = default;
};

struct LogStreamStats {
  uint64_t captured_bytes = 0;
  uint64_t dropped_bytes = 0;  // could not be written: full disk, unwritable directory
  uint64_t rotations = 0;
  uint64_t forward_missed_bytes = 0;  // rotated away before they could be forwarded
  bool forward_missed_more = false;   // the count may leave some out
  std::string error;                  // the present trouble in words; empty: none
};

class LogPump {
 public:
  // Called on the pump's thread when a stream begins or ceases to have trouble (an empty error).
  using TroubleCallback =
      std::function<void(const std::string& stream, const std::string& error, const LogStreamStats&)>;
  // Called on the pump's thread after bytes of `stream` came to be readable in its file or the file was rotated, at
  // most once a millisecond a stream. Must not block.
  using GrowthCallback = std::function<void(const std::string& stream)>;

  // Called on the pump's thread with each FIFO that was opened, by its path, and with -1 when it was removed.
  using FifoCallback = std::function<void(const std::string& path, int fd)>;

  // Called on the pump's thread before a FIFO is made: one that whoever holds them has under that path, and that has no
  // name any more. Invalid: none.
  using TakeFifoCallback = std::function<UniqueFd(const std::string& path)>;

  // Called on the pump's thread when a stream's file had been deleted, renamed or replaced, or its directory, and was
  // made anew. Not for a file that ReopenAll was called for, and not where it was part of a trouble that is told.
  using RemadeCallback = std::function<void(const std::string& stream, const std::string& file)>;

  explicit LogPump(TroubleCallback on_trouble, FifoCallback on_fifo = nullptr, RemadeCallback on_remade = nullptr,
                   TakeFifoCallback take_fifo = nullptr);
  ~LogPump();  // drains what is in the pipes (bounded to 1 s), ends the thread; the FIFOs stay for the next daemon
  LogPump(const LogPump&) = delete;
  LogPump& operator=(const LogPump&) = delete;

  // Any thread. Makes the FIFO (or takes the one that an earlier daemon left, with what is in it), checks that the
  // file can be opened, and begins to capture. The descriptor is a write end for the service, opened read-write so
  // that the service never gets SIGPIPE. Again with the same name: other options from now on, and another write end.
  // Fails with the path and the reason, such as "log file /var/log/x/web.log: Read-only file system (EROFS)". When it
  // is the file that failed, the FIFO is captured all the same, what comes is dropped and the file is tried until it
  // works: an adopted service must not hang. A service that is not started for it wants a Close.
  //
  // Waits for the pump's thread and with it for the disk; `done` of OpenAsync runs on that thread instead.
  absl::StatusOr<UniqueFd> Open(const std::string& stream, const LogStreamOptions& options);
  void OpenAsync(const std::string& stream, const LogStreamOptions& options,
                 std::function<void(absl::StatusOr<UniqueFd>)> done);

  // Any thread. Tells when everything written to the FIFO before the call is in the file (or dropped), at most
  // `timeout` later: so that a service's last words are there when its exit is told. `done` runs on the pump's thread.
  void Flush(const std::string& stream, absl::Duration timeout, std::function<void()> done);

  // Any thread. Drains, stops capturing and removes the FIFO: the service is gone from the configuration.
  void Close(const std::string& stream);
  void CloseAll();

  // Any thread. The instance whose output it is has another name now: the log `old_file` gets the name that `options`
  // say, where that is free, and the stream goes on as `to`. Its FIFO (that of `options`) stays, and the bytes in it.
  void Rename(const std::string& from, const std::string& old_file, const std::string& to,
              const LogStreamOptions& options);

  // Any thread. Closes and opens all files again (SIGUSR1, for logrotate).
  void ReopenAll();

  LogStreamStats Stats(const std::string& stream) const;
  // Any thread. Bytes that were captured of all streams, ever.
  uint64_t TotalBytes() const;

  // Any thread. The callback is called until the returned token is destroyed (and not after); whoever subscribes first
  // and reads the file then misses nothing. The stream need not be open yet.
  class Subscription {
   public:
    virtual ~Subscription() = default;
  };
  std::unique_ptr<Subscription> Subscribe(const std::string& stream, GrowthCallback on_growth);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace supervisor
