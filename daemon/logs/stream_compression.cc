// LogStream: compression of rotated files. The bytes are compressed on another thread; all names change here, on the
// pump's thread, so that rotation and compression never rename against each other.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "common/rotated_files.h"
#include "daemon/logs/stream.h"

namespace supervisor {

void LogStream::StartCompression() {
  if (!options_.compress || compressing_) {
    return;
  }
  const auto directory = capture_->file().OpenDirectory();
  if (!directory.ok()) {
    return;
  }
  const std::string& base = capture_->file().base();
  for (int index = 1; index <= options_.max_files; ++index) {
    UniqueFd input(openat(directory->get(), RotatedName(base, index).c_str(),
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    const auto facts = input ? FactsOf(input.get()) : std::nullopt;
    if (!facts || !facts->regular) {
      continue;
    }
    const std::string temp = CompressionTempName(base);
    unlinkat(directory->get(), temp.c_str(), 0);
    UniqueFd output(openat(directory->get(), temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640));
    if (!output) {
      return;  // tried again after the next rotation
    }
    compressing_ = true;
    const auto finish = [weak = weak_from_this(), &loop = around_.loop, id = facts->id](const absl::Status& result) {
      loop.Post([weak, result, id] {
        if (const auto self = weak.lock()) {
          self->FinishCompression(result, id);
        }
      });
    };
    around_.compressor.Add({std::move(input), std::move(output), facts->id, finish});
    return;
  }
}

void LogStream::FinishCompression(const absl::Status& result, const FileId& original) {
  compressing_ = false;
  const auto directory = capture_->file().OpenDirectory();
  if (!directory.ok()) {
    return;
  }
  const int dir_fd = directory->get();
  const std::string& base = capture_->file().base();
  const std::string temp = CompressionTempName(base);
  // It may have moved on, or away, since.
  const int index = result.ok() ? FindRotated(dir_fd, base, options_.max_files, original) : 0;
  if (index == 0 || renameat(dir_fd, temp.c_str(), dir_fd, RotatedGzipName(base, index).c_str()) != 0) {
    unlinkat(dir_fd, temp.c_str(), 0);
    return;
  }
  unlinkat(dir_fd, RotatedName(base, index).c_str(), 0);
  StartCompression();
}

}  // namespace supervisor
