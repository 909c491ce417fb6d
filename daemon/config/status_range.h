#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

inline constexpr int kLeastStatus = 100;
inline constexpr int kMostStatus = 599;

// "2xx" and "200-299", in any case. Nothing for other texts, numbers among them. Pure; any thread.
std::optional<StatusRange> ParseStatusRange(std::string_view text);

bool IsWithin(const std::vector<StatusRange>& ranges, int status);

// "200, 2xx, 401-403": as messages say what was expected.
std::string StatusRangesText(const std::vector<StatusRange>& ranges);

}  // namespace supervisor
