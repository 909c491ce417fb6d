#include "common/file_id.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace supervisor {
namespace {

std::optional<FileFacts> Facts(int fd, const char* name, int flags) {
  struct statx found {};
  if (statx(fd, name, flags | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
    return std::nullopt;
  }
  FileFacts facts;
  facts.id.device = makedev(found.stx_dev_major, found.stx_dev_minor);
  facts.id.inode = found.stx_ino;
  if ((found.stx_mask & STATX_BTIME) != 0) {
    facts.id.born_ns = static_cast<int64_t>(found.stx_btime.tv_sec) * 1'000'000'000 + found.stx_btime.tv_nsec;
  }
  facts.size = found.stx_size;
  facts.links = found.stx_nlink;
  facts.modified_ms = static_cast<int64_t>(found.stx_mtime.tv_sec) * 1000 + found.stx_mtime.tv_nsec / 1'000'000;
  facts.regular = S_ISREG(found.stx_mode);
  return facts;
}

}  // namespace

std::optional<FileFacts> FactsOf(int fd) { return Facts(fd, "", AT_EMPTY_PATH); }

std::optional<FileFacts> FactsAt(int dir_fd, const std::string& name) {
  return Facts(dir_fd, name.c_str(), AT_SYMLINK_NOFOLLOW);
}

}  // namespace supervisor
