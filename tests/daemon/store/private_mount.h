#pragma once

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <string>
#include <utility>

namespace supervisor {

// A small tmpfs that this process alone sees, so that a disk can be full or read-only for root too. The first one moves
// the calling thread to a mount namespace of its own; threads started later are in it as well.
class PrivateMount {
 public:
  PrivateMount(std::string path, const std::string& options) : path_(std::move(path)) {
    static const bool apart = unshare(CLONE_NEWNS) == 0 && mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    mkdir(path_.c_str(), 0755);
    ok_ = apart && mount("tmpfs", path_.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
  }
  ~PrivateMount() {
    if (ok_) {
      umount2(path_.c_str(), MNT_DETACH);
    }
  }
  PrivateMount(const PrivateMount&) = delete;
  PrivateMount& operator=(const PrivateMount&) = delete;

  bool ok() const { return ok_; }
  const std::string& path() const { return path_; }

  // "ro" or "rw".
  bool Remount(const std::string& mode) const {
    const unsigned long flags = MS_REMOUNT | MS_NOSUID | MS_NODEV | (mode == "ro" ? MS_RDONLY : 0);
    return mount("", path_.c_str(), nullptr, flags, nullptr) == 0;
  }

 private:
  std::string path_;
  bool ok_ = false;
};

}  // namespace supervisor
