#pragma once

#include <string>

#include "absl/time/time.h"

namespace supervisor {

// "2026-11-23 07:28:15.042", UTC: how the database and the contract write a time.
std::string FormatTimestamp(absl::Time time);

// For humans, two units at most: "850 ms", "4.2 s", "42 s", "3m 20s", "2h 5m", "12d 4h". Negative times count as 0.
std::string FormatSpan(absl::Duration duration);

}  // namespace supervisor
