#include "common/fail_point.h"

#ifdef SUPERVISOR_FAIL_POINTS
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "common/unique_fd.h"
#endif

namespace supervisor {

#ifdef SUPERVISOR_FAIL_POINTS

namespace {

const char* NameOf(FailPointId id) {
  switch (id) {
#define SUPERVISOR_FAIL_POINT_NAME(id, name) \
  case FailPointId::id:                      \
    return name;
    SUPERVISOR_FAIL_POINT_LIST(SUPERVISOR_FAIL_POINT_NAME)
#undef SUPERVISOR_FAIL_POINT_NAME
  }
  return "";
}

const std::string& Directory() {
  // Never destroyed: a thread that hangs in a system call may come here when main has ended.
  static const auto* const directory = [] {
    const char* given = std::getenv("SUPERVISOR_FAIL_POINTS");  // NOLINT(concurrency-mt-unsafe): nobody sets any
    return new std::string(given != nullptr ? given : "");
  }();
  return *directory;
}

}  // namespace

std::string_view FailPointNames() {
#define SUPERVISOR_FAIL_POINT_LINE(id, name) name "\n"
  return SUPERVISOR_FAIL_POINT_LIST(SUPERVISOR_FAIL_POINT_LINE);
#undef SUPERVISOR_FAIL_POINT_LINE
}

int FailPoint(FailPointId id) {
  if (Directory().empty()) {
    return 0;
  }
  const std::string path = Directory() + "/" + NameOf(id);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[64] = {};
  // Whoever takes the file away takes the blow, and nobody else.
  if (!fd || read(fd.get(), text, sizeof(text) - 1) <= 0 || unlink(path.c_str()) != 0) {
    return 0;
  }
  const std::string what = text;
  const int number = std::atoi(what.substr(what.find(' ') + 1).c_str());
  if (what.starts_with("kill")) {
    static_cast<void>(kill(getpid(), SIGKILL));  // style-ok(signal-by-pid): ourselves
    for (;;) {
      pause();
    }
  }
  if (what.starts_with("delay")) {
    const timespec wait{.tv_sec = number / 1000, .tv_nsec = (number % 1000) * 1'000'000L};
    nanosleep(&wait, nullptr);  // style-ok(sleep): that is what it is for
    return 0;
  }
  return what.starts_with("error") ? number : 0;
}

#else

std::string_view FailPointNames() { return {}; }

#endif

}  // namespace supervisor
