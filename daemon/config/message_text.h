#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

// How error messages write what a file holds. Pure; any thread.

// `text` in double quotes, control characters and invalid UTF-8 escaped (a terminal shows the message), shortened where
// it is long.
std::string Quote(std::string_view text);

// "services" and "web" give "services.web"; a key that would not read well in a path is quoted: services["my app"].
std::string KeyPath(std::string_view parent, std::string_view key);
std::string ElementPath(std::string_view parent, size_t index);

// {"a", "b", "c"} gives `"a", "b" or "c"`.
std::string QuotedChoices(const std::vector<std::string>& choices);

// `did you mean "port"?`; empty where no candidate is near.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates);

bool IsValidUtf8(std::string_view text);

}  // namespace supervisor
