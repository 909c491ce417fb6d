#pragma once

#include <sys/types.h>

namespace supervisor {

// Says of a child process that somebody in this one waits for its end, for as long as the object lives. A daemon that
// inherits orphans (it runs without a guardian) reaps every other child and leaves these to their owners. Any thread.
class OwnChild {
 public:
  explicit OwnChild(pid_t pid);
  ~OwnChild();
  OwnChild(const OwnChild&) = delete;
  OwnChild& operator=(const OwnChild&) = delete;

  static bool Is(pid_t pid);

 private:
  const pid_t pid_;
};

}  // namespace supervisor
