#include "ctl/output.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <thread>

#include "common/console.h"
#include "common/errno_status.h"
#include "ctl/render/json.h"
#include "ctl/render/utf8.h"

namespace supervisor {
namespace {

constexpr size_t kFlushAt = size_t{64} << 10U;

bool WantsColor(bool no_color) {
  if (no_color || isatty(STDOUT_FILENO) == 0) {
    return false;
  }
  const char* variable = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): before any thread
  return (variable == nullptr || variable[0] == '\0') && !IsDumbTerminal();
}

// A message of the daemon may quote anything. Its own newlines separate lines.
std::string EscapeLines(std::string_view text) {
  std::string out;
  for (;;) {
    const size_t end = text.find('\n');
    out += EscapeForTerminal(text.substr(0, end));
    if (end == std::string_view::npos) {
      return out;
    }
    out += '\n';
    text.remove_prefix(end + 1);
  }
}

}  // namespace

bool IsDumbTerminal() {
  const char* term = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): before any thread
  return term == nullptr || term[0] == '\0' || std::string_view(term) == "dumb";
}

bool Output::IsTerminal() { return isatty(STDOUT_FILENO) == 1; }

size_t Output::width() {
  winsize size{};
  return IsTerminal() && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

Output::Output(bool json, bool no_color) : json_(json), color_(WantsColor(no_color)) {}

void Output::Print(std::string_view text) {
  if (closed_) {
    return;
  }
  buffer_ += text;
  if (buffer_.size() >= kFlushAt) {
    Flush();
  }
}

void Output::PrintJson(std::string_view object) {
  Print(object);
  Print("\n");
}

void Output::Flush() {
  if (!closed_ && !buffer_.empty()) {
    const int error = WriteFully(STDOUT_FILENO, buffer_);
    closed_ = error != 0;
    write_error_ = error == EPIPE ? 0 : error;
  }
  buffer_.clear();
}

void Output::Message(std::string_view text) {
  Flush();
  PrintError(fmt::format("supervisorctl: {}\n", EscapeLines(text)));
}

void Output::Line(std::string_view text) {
  Flush();
  PrintError(fmt::format("{}\n", text));
}

ExitCode Output::Fail(const Failure& failure) {
  if (json_) {
    PrintJson(ErrorJson(failure.code, failure.message));
  }
  return FailStream(failure);
}

ExitCode Output::FailStream(const Failure& failure) {
  Message(failure.message);
  return failure.exit_code;
}

void Output::Exit(ExitCode code) {
  Flush();
  if (write_error_ != 0) {
    PrintError(fmt::format("supervisorctl: cannot write to stdout: {}\n", ErrnoText(write_error_)));
    code = code == ExitCode::kDone ? ExitCode::kFailed : code;
  }
  _exit(ExitCodeOf(static_cast<int>(code)));
}

void Output::WatchReader() {
  struct stat info {};
  if (fstat(STDOUT_FILENO, &info) != 0 || !(S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode))) {
    return;
  }
  std::thread([] {
    // Without events asked for, poll(2) reports POLLERR and POLLHUP alone.
    pollfd reader{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
    while (poll(&reader, 1, -1) < 0 && errno == EINTR) {
    }
    _exit(static_cast<int>(ExitCode::kDone));
  }).detach();  // style-ok(detach): it waits for the reader for as long as this process lives
}

}  // namespace supervisor
