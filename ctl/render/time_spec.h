#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/time/time.h"

namespace supervisor {

// Reads what --since and --until take, as milliseconds since the epoch; returns nothing for text that is no time:
//   a time      "2026-11-23 07:28:15", "2026-11-23T07:28:15.5Z", "...+02:00", "2026-11-23 07:28", "2026-11-23",
//               "@1795420340"
//   of a day    "14:00", "today", "yesterday", "yesterday 14:00", "tomorrow"
//   a span ago  "90s", "10m", "2h", "1d", "1w", "1h30m", "1.5h", "500ms", "2 hours", "-1h", "5 min ago"; "now"
// A time without a zone is UTC, like every time that supervisorctl prints.
std::optional<int64_t> ParseTimeSpec(std::string_view text, absl::Time now);

}  // namespace supervisor
