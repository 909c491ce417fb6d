#include "common/errno_status.h"

#include <fmt/format.h>

#include <cstring>

namespace supervisor {

std::string ErrnoText(int error) {
  // Both are async-signal-unsafe but thread-safe: strerrorname_np(3) and strerrordesc_np(3), glibc 2.32.
  const char* description = strerrordesc_np(error);
  const char* name = strerrorname_np(error);
  if (description == nullptr || name == nullptr) {
    return fmt::format("error {}", error);
  }
  return fmt::format("{} ({})", description, name);
}

absl::Status ErrnoToStatus(int error, std::string_view context) {
  return {absl::ErrnoToStatusCode(error), fmt::format("{}: {}", context, ErrnoText(error))};
}

}  // namespace supervisor
