#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_id.h"
#include "common/unique_fd.h"

namespace supervisor {

// A log and its rotated files, as a reader finds them while another process rotates and compresses. Files only ever
// move to higher numbers, the oldest first (rotated_files.h): so a walk upwards misses none, and two files were
// neighbours if the one is where it was after the other was opened. Blocks on the disk; keeps no state.
class LogChain {
 public:
  // One file, under whatever number.
  struct Entry {
    FileId id;
    std::optional<FileId> original;  // of a compressed file: what it was made from
    bool gzip = false;
    uint64_t size = 0;        // uncompressed (of a compressed one: modulo 4 GiB)
    int64_t modified_ms = 0;  // when it was written last, since the epoch
    bool SameAs(const Entry& other) const;
  };
  struct File {
    UniqueFd fd;
    Entry entry;
    int index = 0;  // 0: the log itself
  };

  // Numbers may be missing: a rotation under way, or cut short, leaves one, and administrators delete some.
  static constexpr int kLargestGap = 16;
  // For who is content with what follows closely, and asks often.
  static constexpr int kSmallGap = 3;

  explicit LogChain(std::string path, int largest_gap = kLargestGap);

  const std::string& path() const { return path_; }
  std::string NameOf(const File& file) const;

  // Nothing where there is no regular file. Fails for what is there and cannot be read, a symbolic link among it.
  absl::StatusOr<std::optional<File>> Open(int index) const;
  absl::StatusOr<std::optional<File>> OpenNewest() const;
  absl::StatusOr<std::optional<File>> OpenOldest() const;

  // The next file in the order of writing; nothing where there is none, or `of` is no longer among them.
  absl::StatusOr<std::optional<File>> OpenOlder(const Entry& of) const;
  absl::StatusOr<std::optional<File>> OpenNewer(const Entry& of) const;

  std::optional<int> Find(const Entry& entry) const;
  // Newest first.
  std::vector<Entry> List() const;

 private:
  // A walk that nobody diverts (careful_path.h); the rest goes by the descriptor.
  absl::StatusOr<UniqueFd> OpenDirectory() const;
  absl::StatusOr<std::optional<File>> OpenName(int directory, const std::string& name, int index, bool gzip) const;
  absl::StatusOr<std::optional<File>> OpenIn(int directory, int index) const;
  std::optional<Entry> Probe(int directory, int index) const;
  std::optional<int> FindIn(int directory, const Entry& entry) const;
  absl::StatusOr<std::optional<File>> OpenNeighbour(const Entry& of, bool newer) const;

  std::string path_;
  std::string directory_;
  std::string base_;
  int largest_gap_;
};

}  // namespace supervisor
