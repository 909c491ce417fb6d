#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace supervisor {

// What is between our rows and the texts in the database.

// `text` as valid UTF-8 without NUL, what is not replaced by U+FFFD: a service may print anything, and other programs
// that read the database stumble over it.
std::string WithValidUtf8(std::string text);

// Instance ids as a JSON array, and back. They hold nothing that JSON would escape (CONTRACT section 2); what does is
// left out.
std::string JoinList(const std::vector<std::string>& ids);
std::vector<std::string> SplitList(std::string_view text);

// Takes what this program, CURRENT_TIMESTAMP and other programs write, all in UTC: "2026-11-23 07:28:15[.042]", with a
// 'T' in the middle or a 'Z' at the end too, or seconds since 1970. The epoch for what is none of these.
absl::Time ParseTimestamp(std::string_view text);

// The texts that bound the timestamps from `since` to `until`, both included, also where a row has no fraction.
std::string TimestampLowerBound(absl::Time since);
std::string TimestampUpperBound(absl::Time until);

}  // namespace supervisor
