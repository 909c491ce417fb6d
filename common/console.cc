#include "common/console.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "common/errno_status.h"

namespace supervisor {
namespace {

// The first errno of each descriptor; 0: all was written.
std::atomic<int> stdout_error{0};
std::atomic<int> stderr_error{0};

void Print(int fd, std::string_view text, std::atomic<int>& first_error) {
  const int error = WriteFully(fd, text);
  int none = 0;
  if (error != 0 && error != EPIPE) {
    first_error.compare_exchange_strong(none, error);
  }
}

}  // namespace

int WriteFully(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written >= 0) {
      data.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd writable{.fd = fd, .events = POLLOUT, .revents = 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

void PrintOut(std::string_view text) { Print(STDOUT_FILENO, text, stdout_error); }

void PrintError(std::string_view text) { Print(STDERR_FILENO, text, stderr_error); }

int ExitCodeOf(int code) {
  if (const int error = stdout_error.load(); error != 0) {
    PrintError(fmt::format("{}: cannot write to stdout: {}\n", program_invocation_short_name, ErrnoText(error)));
  }
  const bool is_told = stdout_error.load() == 0 && stderr_error.load() == 0;
  return code == 0 && !is_told ? 1 : code;
}

}  // namespace supervisor
