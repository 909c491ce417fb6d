#include "common/file_access.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace supervisor {
namespace {

constexpr const char* kAclAttribute = "system.posix_acl_access";
constexpr mode_t kPermissions = 0777;

std::string AclOf(int fd) {
  std::array<char, 4096> value{};  // what is larger is left to the administrator
  const ssize_t size = fgetxattr(fd, kAclAttribute, value.data(), value.size());
  return size > 0 ? std::string(value.data(), static_cast<size_t>(size)) : std::string();
}

}  // namespace

std::optional<FileAccess> AccessOf(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    return std::nullopt;
  }
  return FileAccess{
      .uid = status.st_uid, .gid = status.st_gid, .mode = status.st_mode & kPermissions, .acl = AclOf(fd)};
}

int GiveAccess(int fd, const FileAccess& access) {
  const std::optional<FileAccess> has = AccessOf(fd);
  if (!has) {
    return errno;
  }
  if (*has == access) {
    return 0;
  }
  int error = 0;
  const auto note = [&error](int result) {
    if (result != 0 && error == 0) {
      error = errno;
    }
  };
  if (has->gid != access.gid) {
    note(fchown(fd, static_cast<uid_t>(-1), access.gid));
  }
  if (has->uid != access.uid) {
    note(fchown(fd, access.uid, static_cast<gid_t>(-1)));
  }
  note(fchmod(fd, access.mode));  // after chown(2), which may take bits away
  if (!access.acl.empty()) {
    note(fsetxattr(fd, kAclAttribute, access.acl.data(), access.acl.size(), 0));
  }
  return error;
}

}  // namespace supervisor
