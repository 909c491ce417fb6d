#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/file_id.h"

namespace supervisor {

// Which of the files beside a log our own rotation made. Other programs (logrotate, an administrator) name files in the
// same way, and what they keep is not ours to remove or to compress.
//
// A hidden file beside the log, ".web.log.rotated", has a line "INODE BIRTH_NS" for each. A line is appended before the
// file gets its number, so a process that is killed in between forgets nothing. The device is left out: its number may
// be another after a reboot. Whatever is unknown, because the ledger was lost or is a stranger's, counts as another
// program's and is kept. One thread; blocks on the disk.
class RotationLedger {
 public:
  // Reads the ledger of the log `base` in the directory. What was added before and could not be written stays known.
  void Load(int dir_fd, const std::string& base);

  bool Has(const FileId& id) const { return known_.contains(KeyOf(id)); }
  // Whether the regular file of that name in the directory is one of them; false where there is none.
  bool HasFile(int dir_fd, const std::string& name) const;

  // False, with errno set, where it could not be written: it is known until this process ends.
  bool Add(int dir_fd, const std::string& base, const FileId& id);

  // Gives the ledger of the log `from` to the log `to`, before the files themselves are renamed. The entries of `to`,
  // if it has a ledger already, are kept. Returns false, with errno set, if it could not be written; both then stay as
  // they are.
  static bool Move(int dir_fd, const std::string& from, const std::string& to);

  // The file has grown so long that Compact, which forgets all but `alive`, is worth while.
  bool IsLong() const { return lines_ >= compact_at_; }
  void Compact(int dir_fd, const std::string& base, const std::vector<FileId>& alive);

 private:
  using Key = std::pair<uint64_t, int64_t>;
  static Key KeyOf(const FileId& id) { return {id.inode, id.born_ns}; }

  std::set<Key> known_;
  static constexpr size_t kShort = 1024;
  size_t lines_ = 0;  // of the file
  size_t compact_at_ = kShort;
};

std::string LedgerName(const std::string& base);  // of "web.log": ".web.log.rotated"

}  // namespace supervisor
