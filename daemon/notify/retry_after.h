#pragma once

#include <optional>
#include <string_view>

#include "absl/time/time.h"

namespace supervisor {

// When a receiver wants to be asked again: Retry-After, in seconds or as a date (RFC 9110, section 10.2.3). A date is
// compared with the answer's own Date where it has one, so a clock that is wrong here does no harm; else with `now`.
// Never negative; nothing where it is neither. Pure; any thread.
std::optional<absl::Duration> ParseRetryAfter(std::string_view retry_after, std::string_view date, absl::Time now);

}  // namespace supervisor
