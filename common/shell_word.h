#pragma once

#include <string>
#include <string_view>

namespace supervisor {

// Returns `text` as one word of a shell command, quoted where it has to be. For messages that say what to run. Pure.
std::string ShellWord(std::string_view text);

}  // namespace supervisor
