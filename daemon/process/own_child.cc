#include "daemon/process/own_child.h"

#include <map>
#include <mutex>

namespace supervisor {
namespace {

struct Claims {
  std::mutex mutex;
  std::map<pid_t, int> by_pid;  // how many: a pid may have a new owner before the last one has let go
};

Claims& AllClaims() {
  static auto* const claims = new Claims();  // NOLINT(cppcoreguidelines-owning-memory): lives as long as the process
  return *claims;
}

}  // namespace

OwnChild::OwnChild(pid_t pid) : pid_(pid) {
  const std::lock_guard lock(AllClaims().mutex);
  ++AllClaims().by_pid[pid_];
}

OwnChild::~OwnChild() {
  const std::lock_guard lock(AllClaims().mutex);
  if (--AllClaims().by_pid[pid_] == 0) {
    AllClaims().by_pid.erase(pid_);
  }
}

bool OwnChild::Is(pid_t pid) {
  const std::lock_guard lock(AllClaims().mutex);
  return AllClaims().by_pid.contains(pid);
}

}  // namespace supervisor
