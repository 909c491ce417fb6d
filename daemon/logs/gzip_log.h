#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_id.h"
#include "common/unique_fd.h"

namespace supervisor {

// Rotated logs as ordinary gzip files. The header's extra field (RFC 1952, subfield "SV") names the file that was
// compressed, so that a follower that has read that one knows where in the order it is.

// Compresses all of `input` to `output`, with its modification time, and writes it through to the disk.
// Cancelled when `stop` becomes true.
absl::Status CompressLog(int input, int output, const FileId& original, const std::atomic<bool>& stop);

// What the header says; nothing when it is a gzip file of another origin, or none.
std::optional<FileId> OriginalOfGzip(int fd);

// Reads a gzip file from its start. Blocks on the disk.
class GzipReader {
 public:
  static absl::StatusOr<std::unique_ptr<GzipReader>> Open(UniqueFd fd, const std::string& name);
  ~GzipReader();
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  // The next bytes, at most `max`; empty at the end. DataLoss, once, where the file is damaged: that is then its end.
  absl::StatusOr<std::string> Read(size_t max);

 private:
  struct State;
  GzipReader(std::unique_ptr<State> state, std::string name);
  absl::Status Damaged(std::string_view how);
  std::unique_ptr<State> state_;
  std::string name_;
};

}  // namespace supervisor
