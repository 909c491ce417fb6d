#pragma once

#include <string_view>

namespace supervisor {

// Returns true iff the glob matches the whole text, as fnmatch(3) without flags does: `*`, `?`, `[a-z]`, `[!a-z]`, and
// a backslash before a character that is meant as it is. Bytes, not characters; no classes such as `[:alpha:]`. Takes
// time in proportion to both lengths multiplied at most, whatever the pattern, where fnmatch(3) may take for ever:
// patterns come from callers that are not trusted. Pure.
bool GlobMatches(std::string_view pattern, std::string_view text);

// Returns true iff the text has a character that means more than itself in a glob.
bool IsGlob(std::string_view text);

}  // namespace supervisor
