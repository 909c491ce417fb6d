#include "daemon/guardian/guardian_voice.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstring>

#include "daemon/guardian/restart_plan.h"

namespace supervisor {

Line& Line::operator<<(const char* text) {
  const size_t added = std::min(std::strlen(text), text_.size() - 1 - size_);
  std::memcpy(text_.data() + size_, text, added);
  size_ += added;
  return *this;
}

Line& Line::operator<<(int64_t number) {
  char digits[24] = {};
  std::to_chars(digits, digits + sizeof(digits) - 1, number);
  return *this << digits;
}

Line& Line::AddEnd(int status) {
  if (status == DaemonEnd::kNotForked) {
    return *this << "could not be forked";
  }
  if (!WIFSIGNALED(status)) {
    return *this << "exited with code " << int64_t{WEXITSTATUS(status)};
  }
  const char* name = sigabbrev_np(WTERMSIG(status));
  if (name == nullptr) {
    return *this << "was killed by signal " << int64_t{WTERMSIG(status)};
  }
  return *this << "was killed by SIG" << name;
}

void Say(const Line& line) {
  Line whole;
  whole << "supervisord: guardian: " << line.text() << "\n";
  pollfd takes{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&takes, 1, 0) == 1 && (takes.revents & POLLOUT) != 0) {
    static_cast<void>(!write(STDERR_FILENO, whole.text(), whole.size()));  // at most PIPE_BUF: whole or not at all
  }
}

}  // namespace supervisor
