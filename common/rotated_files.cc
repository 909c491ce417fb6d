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

// The first number that neither a plain nor a compressed file bears.
int FirstFree(int dir_fd, const std::string& base) {
  int index = 1;
  while (Occupied(dir_fd, base, index)) {
    ++index;
  }
  return index;
}

// All that own rotation may have made and that is still there.
std::vector<FileId> IdsOf(int dir_fd, const std::string& base) {
  std::vector<FileId> ids;
  const auto add = [&](const std::string& name) {
    if (const auto facts = FactsAt(dir_fd, name)) {
      ids.push_back(facts->id);
    }
  };
  add(CompressionTempName(base));
  for (int index = 1; Occupied(dir_fd, base, index); ++index) {
    add(RotatedName(base, index));
    add(RotatedGzipName(base, index));
  }
  return ids;
}

}  // namespace

std::string RotatedName(const std::string& base, int index) {
  return index == 0 ? base : fmt::format("{}.{}", base, index);
}

std::string RotatedGzipName(const std::string& base, int index) { return fmt::format("{}.{}.gz", base, index); }

std::string CompressionTempName(const std::string& base) { return base + ".gz.tmp"; }

absl::Status ShiftRotatedFiles(int dir_fd, const std::string& dir_path, const std::string& base, int max_files,
                               RotationLedger& ledger) {
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
  if (const auto present = FactsAt(dir_fd, base)) {
    ledger.Add(dir_fd, base, present->id);
  }
  const int end = FirstFree(dir_fd, base);
  for (int index = max_files; index < end; ++index) {
    for (const std::string& name : {RotatedName(base, index), RotatedGzipName(base, index)}) {
      if (const int error = ledger.HasFile(dir_fd, name) ? Remove(dir_fd, name) : 0; error != 0) {
        return failed(error, name);
      }
    }
  }
  const int free_index = FirstFree(dir_fd, base);
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
  if (ledger.IsLong()) {
    ledger.Compact(dir_fd, base, IdsOf(dir_fd, base));
  }
  return error == 0 ? absl::OkStatus() : failed(error, RotatedName(base, 1));
}

std::vector<std::string> PruneRotatedFiles(int dir_fd, const std::string& base, int max_files,
                                           const RotationLedger& ledger) {
  std::vector<std::string> removed;
  for (int index = max_files + 1; Occupied(dir_fd, base, index); ++index) {
    for (const std::string& name : {RotatedName(base, index), RotatedGzipName(base, index)}) {
      if (ledger.HasFile(dir_fd, name) && Remove(dir_fd, name) == 0) {
        removed.push_back(name);
      }
    }
  }
  return removed;
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
