#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/time/time.h"

namespace supervisor {

// What --since and --until take, as milliseconds since the epoch; nothing for what is no time:
//   a time      "2026-11-23 07:28:15", "2026-11-23T07:28:15.5Z", "...+02:00", "2026-11-23 07:28", "2026-11-23",
//   "@1795420340" a span ago  "90s", "10m", "2h", "1d", "1w", "1h30m", "1.5h", "500ms", each also with " ago"; "now"
// A time without a zone is UTC, as everything that supervisorctl prints.
std::optional<int64_t> ParseTimeSpec(std::string_view text, absl::Time now);

}  // namespace supervisor
