#include "common/rotation_ledger.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr int kOpenFlags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
constexpr mode_t kFileMode = 0640;
constexpr off_t kLargest = 4 << 20;  // a hundred thousand files

// Whether it is a file of our own making: what else bears this name could have us remove what is another's.
bool IsOurs(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() && status.st_nlink == 1 &&
         (status.st_mode & (S_IWGRP | S_IWOTH)) == 0 && status.st_size <= kLargest;
}

UniqueFd OpenLedger(int dir_fd, const std::string& base, bool make) {
  const std::string name = LedgerName(base);
  UniqueFd file(openat(dir_fd, name.c_str(), kOpenFlags));
  if (!file && make) {
    file.Reset(openat(dir_fd, name.c_str(), kOpenFlags | O_CREAT | O_EXCL, kFileMode));
  }
  if (file && !IsOurs(file.get())) {
    file.Reset();
    errno = EPERM;
  }
  return file;
}

std::string LineOf(uint64_t inode, int64_t born_ns) { return fmt::format("{} {}\n", inode, born_ns); }

bool ParseLine(std::string_view line, std::pair<uint64_t, int64_t>& key) {
  const char* end = line.data() + line.size();
  const auto inode = std::from_chars(line.data(), end, key.first);
  if (inode.ec != std::errc() || inode.ptr == end || *inode.ptr != ' ') {
    return false;
  }
  const auto born = std::from_chars(inode.ptr + 1, end, key.second);
  return born.ec == std::errc() && born.ptr == end;
}

std::string ReadAll(int fd) {
  std::string text;
  std::string block(64u << 10, '\0');
  for (ssize_t n = 0; (n = pread(fd, block.data(), block.size(), static_cast<off_t>(text.size()))) > 0;) {
    text.append(block, 0, static_cast<size_t>(n));
  }
  return text;
}

}  // namespace

std::string LedgerName(const std::string& base) { return "." + base + ".rotated"; }

void RotationLedger::Load(int dir_fd, const std::string& base) {
  lines_ = 0;
  const UniqueFd file = OpenLedger(dir_fd, base, false);
  if (!file) {
    return;
  }
  const std::string text = ReadAll(file.get());
  // A last line without its end was cut short by a full disk, and is no line.
  for (size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    Key key;
    ++lines_;
    if (ParseLine(std::string_view(text).substr(begin, end - begin), key)) {
      known_.insert(key);
    }
  }
}

bool RotationLedger::HasFile(int dir_fd, const std::string& name) const {
  const auto facts = FactsAt(dir_fd, name);
  return facts && facts->regular && Has(facts->id);
}

bool RotationLedger::Add(int dir_fd, const std::string& base, const FileId& id) {
  if (!known_.insert(KeyOf(id)).second) {
    return true;
  }
  const UniqueFd file = OpenLedger(dir_fd, base, true);
  if (!file) {
    return false;
  }
  struct stat status {};
  char last = '\n';
  const bool torn = fstat(file.get(), &status) == 0 && status.st_size > 0 &&
                    pread(file.get(), &last, 1, status.st_size - 1) == 1 && last != '\n';
  const std::string line = (torn ? "\n" : "") + LineOf(id.inode, id.born_ns);
  lines_ += 1;
  return write(file.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

bool RotationLedger::Move(int dir_fd, const std::string& from, const std::string& to) {
  if (renameat2(dir_fd, LedgerName(from).c_str(), dir_fd, LedgerName(to).c_str(), RENAME_NOREPLACE) == 0 ||
      errno == ENOENT) {
    return true;
  }
  const UniqueFd before = errno == EEXIST ? OpenLedger(dir_fd, from, false) : UniqueFd();
  const UniqueFd file = before ? OpenLedger(dir_fd, to, true) : UniqueFd();
  if (!file) {
    return false;
  }
  const std::string text = "\n" + ReadAll(before.get());  // a torn last line of the other stays one line
  return write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
         unlinkat(dir_fd, LedgerName(from).c_str(), 0) == 0;
}

void RotationLedger::Compact(int dir_fd, const std::string& base, const std::vector<FileId>& alive) {
  compact_at_ = lines_ + kShort;
  std::set<Key> kept;
  std::string text;
  for (const FileId& id : alive) {
    if (Has(id) && kept.insert(KeyOf(id)).second) {
      text += LineOf(id.inode, id.born_ns);
    }
  }
  const std::string temp = LedgerName(base) + ".tmp";
  unlinkat(dir_fd, temp.c_str(), 0);
  const UniqueFd fresh(openat(dir_fd, temp.c_str(), kOpenFlags | O_CREAT | O_EXCL, kFileMode));
  if (!fresh || write(fresh.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      renameat(dir_fd, temp.c_str(), dir_fd, LedgerName(base).c_str()) != 0) {
    unlinkat(dir_fd, temp.c_str(), 0);
    return;  // the long one goes on
  }
  known_ = std::move(kept);
  lines_ = known_.size();
  compact_at_ = 2 * lines_ + kShort;
}

}  // namespace supervisor
