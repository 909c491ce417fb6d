#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/careful_path.h"
#include "common/file_access.h"
#include "common/file_id.h"
#include "common/rotation_ledger.h"
#include "common/unique_fd.h"
#include "daemon/logs/log_pump.h"

namespace supervisor {

// The file that a stream is written to. The directory is the administrator's choice and made when it is missing; its
// last component and the file may not be symbolic links of strangers, and in a directory where others may write the
// file must be ours. The pump's thread; every call may block on the disk.
class LogFile {
 public:
  explicit LogFile(const std::string& path);

  const std::string& path() const { return path_; }
  bool is_open() const { return file_.valid(); }
  const FileId& directory_id() const { return directory_id_; }
  const std::string& directory() const { return directory_; }
  const std::string& base() const { return base_; }

  // Opens the file, or makes it. Fails with path, reason and what to do.
  absl::Status Open();
  void Close();

  // The user of the service, to whom the directory may belong.
  void SetServiceUser(uid_t uid) { service_uid_ = uid; }
  // Holds for the open file at once, and for those that are made later.
  void SetAccess(const WantedAccess& wanted);
  // Owner, group or mode that could not be given, in words; empty where all could.
  const std::string& access_error() const { return access_error_; }

  // Which rotated files are our own. Loaded with the directory.
  RotationLedger& ledger() { return ledger_; }

  // REQUIRES: is_open(). What is open now: its size is where the next byte goes, whoever truncated or extended it.
  std::optional<FileFacts> Facts() const { return FactsOf(file_.get()); }
  // Whether the path still names the open file.
  bool InPlace() const;
  // Whether a file of `size` bytes ends with a line end, or is empty.
  bool AtLineStart(uint64_t size) const;
  // Whether the disk takes more: reserves a few bytes behind the end without changing the size.
  bool HasRoom(uint64_t size) const;

  struct Moved {
    uint64_t bytes = 0;
    int error = 0;  // errno, when nothing was moved
  };
  // Moves at most `bytes` from the pipe to the offset `at`, which is the file's end, without passing through this
  // process. Another program may truncate the file meanwhile (logrotate's copytruncate): no hole is left then.
  Moved SpliceFrom(int pipe, uint64_t bytes, uint64_t at) const;
  // Writes to the end of the file, wherever that is by now; `at` is where it was.
  Moved Write(std::string_view bytes, uint64_t at) const;

  // Makes way for a new file and closes the present one; the next Open makes the new one. When it fails the present
  // one stays open, and writing to it goes on.
  absl::Status Rotate(int max_files);

  absl::StatusOr<UniqueFd> OpenDirectory() const;

 private:
  absl::StatusOr<UniqueFd> OpenDirectory(IfMissing if_missing) const;
  void RememberAccess();
  void GiveInheritedAccess(int dir_fd, int fd);
  void GiveWantedAccess();
  void NoteAccess(int error, std::string_view what);
  absl::Status CheckOpened(int dir_fd, int fd) const;
  absl::Status Refused(std::string_view why) const;

  std::string path_;
  std::string directory_;
  std::string base_;
  FileId directory_id_;
  UniqueFd file_;
  std::optional<uid_t> service_uid_;
  WantedAccess wanted_;
  std::optional<FileAccess> former_;  // of the file that was open last
  std::string access_error_;
  RotationLedger ledger_;
};

}  // namespace supervisor
