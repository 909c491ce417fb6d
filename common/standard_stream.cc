#include "common/standard_stream.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string_view>

namespace supervisor {
namespace {

std::optional<int> StreamNamed(std::string_view path) {
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    if (path == (fd == STDOUT_FILENO ? "/dev/stdout" : "/dev/stderr") || path == fmt::format("/dev/fd/{}", fd) ||
        path == fmt::format("/proc/self/fd/{}", fd)) {
      return fd;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> StandardStream(const std::string& path) {
  if (const std::optional<int> named = StreamNamed(path)) {
    return named;
  }
  char target[64];
  const ssize_t size = readlink(path.c_str(), target, sizeof(target));
  return size > 0 ? StreamNamed({target, static_cast<size_t>(size)}) : std::nullopt;
}

}  // namespace supervisor
