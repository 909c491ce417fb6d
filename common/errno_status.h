#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace supervisor {

// The one place that turns errno into a Status. The message is "CONTEXT: TEXT (ENAME)", such as
// "working_directory /srv/app: No such file or directory (ENOENT)". The code follows absl's mapping of errno.
absl::Status ErrnoToStatus(int error, std::string_view context);

// "No such file or directory (ENOENT)". Thread-safe.
std::string ErrnoText(int error);

}  // namespace supervisor
