#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

// The candidates that `name` was probably meant to be, nearest first, at most `most`: by edit distance with
// transpositions (optimal string alignment), at most a third of the name's length, and by prefix.
std::vector<std::string> NearMisses(std::string_view name, const std::vector<std::string>& candidates, size_t most = 3);

}  // namespace supervisor
