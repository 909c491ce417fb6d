#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace supervisor {

// Says in which life of the machine, or of the container, something was written. A pid means nothing in another one: a
// container that is started again has the boot id of its host and a pid namespace of its own, in which none of the
// recorded processes lives. For a supervisor that is a boot.
struct BootIdentity {
  std::string boot_id;            // /proc/sys/kernel/random/boot_id
  uint64_t pid_namespace = 0;     // the inode of /proc/self/ns/pid (namespaces(7)); 0: not known
  uint64_t init_start_ticks = 0;  // start of the namespace's pid 1: the kernel uses inodes again. 0: not known
  bool operator==(const BootIdentity&) const = default;

  bool empty() const { return boot_id.empty(); }
};

// Of this process. `boot_id` is "unknown" where the kernel does not tell it.
BootIdentity CurrentBoot();

// Whether pids of `recorded` can be processes of `current`. What one of the two does not know says nothing against it:
// older programs wrote the boot id alone, and /proc may hide pid 1 (hidepid=, proc(5)).
bool IsSameBoot(const BootIdentity& recorded, const BootIdentity& current);

// "4026531836 12", without the boot id.
std::string FormatPidNamespace(const BootIdentity& boot);
// Takes what FormatPidNamespace wrote; nothing of a text that is none.
void TakePidNamespace(std::string_view text, BootIdentity& boot);

}  // namespace supervisor
