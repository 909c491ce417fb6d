#include "common/rotated_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "common/errno_status.h"
#include "common/fail_point.h"

namespace supervisor {
namespace {

bool Exists(int dir_fd, const std::string& name) {
  struct stat status {};
  return fstatat(dir_fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

bool Occupied(int dir_fd, const std::string& base, int index) {
  return Exists(dir_fd, RotatedName(base, index)) || Exists(dir_fd, RotatedGzipName(base, index));
}

// 0, or errno. A name that is not there is no failure.
int Rename(int dir_fd, const std::string& from, const std::string& to) {
  return renameat(dir_fd, from.c_str(), dir_fd, to.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

int Remove(int dir_fd, const std::string& name) {
  return unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT ? 0 : errno;
}

}  // namespace

std::string RotatedName(const std::string& base, int index) {
  return index == 0 ? base : fmt::format("{}.{}", base, index);
}

std::string RotatedGzipName(const std::string& base, int index) { return fmt::format("{}.{}.gz", base, index); }

std::string CompressionTempName(const std::string& base) { return base + ".gz.tmp"; }

absl::Status ShiftRotatedFiles(int dir_fd, const std::string& dir_path, const std::string& base, int max_files) {
  const auto failed = [&](int error, const std::string& name) {
    return ErrnoToStatus(error, fmt::format("cannot rotate log file {}/{}: {}", dir_path, base, name));
  };
  if (const int error = FailPoint(FailPointId::kLogRotating); error != 0) {
    return failed(error, RotatedName(base, 1));
  }
  if (max_files <= 0) {
    const int error = Remove(dir_fd, base);
    return error == 0 ? absl::OkStatus() : failed(error, base);
  }
  int free_index = 1;
  while (free_index <= max_files && Occupied(dir_fd, base, free_index)) {
    ++free_index;
  }
  if (free_index > max_files) {
    free_index = max_files;
    for (const std::string& name : {RotatedName(base, free_index), RotatedGzipName(base, free_index)}) {
      if (const int error = Remove(dir_fd, name); error != 0) {
        return failed(error, name);
      }
    }
  }
  for (int index = free_index - 1; index >= 1; --index) {
    if (const int error = Rename(dir_fd, RotatedName(base, index), RotatedName(base, index + 1)); error != 0) {
      return failed(error, RotatedName(base, index));
    }
    if (const int error = Rename(dir_fd, RotatedGzipName(base, index), RotatedGzipName(base, index + 1)); error != 0) {
      return failed(error, RotatedGzipName(base, index));
    }
  }
  FailPoint(FailPointId::kLogShifted);
  const int error = Rename(dir_fd, base, RotatedName(base, 1));
  FailPoint(FailPointId::kLogRenamed);
  return error == 0 ? absl::OkStatus() : failed(error, RotatedName(base, 1));
}

void PruneRotatedFiles(int dir_fd, const std::string& base, int max_files) {
  Remove(dir_fd, CompressionTempName(base));
  for (int index = max_files + 1; Occupied(dir_fd, base, index); ++index) {
    if (Remove(dir_fd, RotatedName(base, index)) != 0 || Remove(dir_fd, RotatedGzipName(base, index)) != 0) {
      return;
    }
  }
}

int FindRotated(int dir_fd, const std::string& base, int max_files, const FileId& id) {
  for (int index = 1; index <= max_files; ++index) {
    const auto facts = FactsAt(dir_fd, RotatedName(base, index));
    if (facts && facts->id == id) {
      return index;
    }
  }
  return 0;
}

}  // namespace supervisor
