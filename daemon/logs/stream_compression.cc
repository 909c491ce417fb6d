// LogStream: compression of rotated files. The bytes are compressed on another thread; all names change here, on the
// pump's thread, so that rotation and compression never rename against each other.

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "common/diag_log.h"
#include "common/file_access.h"
#include "common/rotated_files.h"
#include "daemon/logs/gzip_log.h"
#include "daemon/logs/stream.h"

namespace supervisor {

// What a larger max_files, or a compression that was cut short, has left. Where nothing is rotated by size nothing is
// removed: another program sees to the log then.
void LogStream::TidyRotatedFiles() {
  const auto directory = capture_->file().OpenDirectory();
  if (!directory.ok() || compressing_) {
    return;
  }
  RemoveCutCompression(directory->get());
  if (options_.max_size_bytes == 0) {
    return;
  }
  const std::vector<std::string> removed =
      PruneRotatedFiles(directory->get(), capture_->file().base(), options_.max_files, capture_->ledger());
  if (!removed.empty()) {
    LogInfo("rotated log files beyond logs.max_files were removed",
            {{"stream", name_},
             {"directory", capture_->file().directory()},
             {"max_files", std::to_string(options_.max_files)},
             {"files", fmt::format("{}", fmt::join(removed, " "))}});
  }
}

// Ours by the ledger, or by what it begins with.
void LogStream::RemoveCutCompression(int dir_fd) {
  const std::string temp = CompressionTempName(capture_->file().base());
  const UniqueFd file(openat(dir_fd, temp.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  const auto facts = file ? FactsOf(file.get()) : std::nullopt;
  if (facts && facts->regular &&
      (facts->size == 0 || capture_->ledger().Has(facts->id) || OriginalOfGzip(file.get()))) {
    unlinkat(dir_fd, temp.c_str(), 0);
  }
}

// One of our own rotation's, whose compressed name is not another program's file.
bool LogStream::IsForCompression(int dir_fd, int index) {
  const std::string& base = capture_->file().base();
  const std::string gzip = RotatedGzipName(base, index);
  return capture_->ledger().HasFile(dir_fd, RotatedName(base, index)) &&
         (capture_->ledger().HasFile(dir_fd, gzip) || !FactsAt(dir_fd, gzip));
}

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
    if (!IsForCompression(directory->get(), index)) {
      continue;
    }
    UniqueFd input(openat(directory->get(), RotatedName(base, index).c_str(),
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    const auto facts = input ? FactsOf(input.get()) : std::nullopt;
    if (!facts || !capture_->ledger().Has(facts->id)) {
      continue;
    }
    const std::string temp = CompressionTempName(base);
    RemoveCutCompression(directory->get());
    UniqueFd output(openat(directory->get(), temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640));
    const auto made = output ? FactsOf(output.get()) : std::nullopt;
    if (!made) {  // tried again after the next rotation
      if (errno == EEXIST && !std::exchange(compression_hindered_told_, true)) {
        LogWarning("rotated logs can't be compressed: a file of another program is in the way; remove or rename it",
                   {{"stream", name_}, {"file", capture_->file().directory() + "/" + temp}});
      }
      return;
    }
    capture_->ledger().Add(directory->get(), base, made->id);
    if (const auto access = AccessOf(input.get())) {
      GiveAccess(output.get(), *access);  // should it fail, fewer may read it
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
  if (index == 0 || !IsForCompression(dir_fd, index) ||
      renameat(dir_fd, temp.c_str(), dir_fd, RotatedGzipName(base, index).c_str()) != 0) {
    unlinkat(dir_fd, temp.c_str(), 0);
    return;
  }
  unlinkat(dir_fd, RotatedName(base, index).c_str(), 0);
  StartCompression();
}

}  // namespace supervisor
