#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace supervisor {

// What comes out of a service's name, message or log is untrusted bytes. These make it safe to show.

// Replaces every malformed sequence (overlong, surrogate, cut off, stray) with U+FFFD; the rest is unchanged.
std::string ToValidUtf8(std::string_view text);
bool IsValidUtf8(std::string_view text);

// One printable line: malformed bytes, control characters and those that turn the writing direction are written out
// as "\n", "\t", "\x1b", "\u202e"; a terminal obeys none of it.
std::string EscapeForTerminal(std::string_view text);

// Columns a terminal uses for valid UTF-8: 2 for wide East Asian characters and emoji, 0 for combining marks.
size_t DisplayWidth(std::string_view text);

}  // namespace supervisor
