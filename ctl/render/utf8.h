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

// What a service wrote, for a terminal: as EscapeForTerminal, but newlines and tabs stay. Takes it in pieces, which may
// end within a character: such an end is held back until the rest comes, so nothing that a terminal obeys slips through
// in two halves.
class TerminalText {
 public:
  std::string Feed(std::string_view bytes);
  // The end that was held back, written out: nothing more comes.
  std::string End();

 private:
  std::string held_;  // the well-formed beginning of a character, three bytes at most
};

// Columns a terminal uses for valid UTF-8: 2 for wide East Asian characters and emoji, 0 for combining marks.
size_t DisplayWidth(std::string_view text);

// `text`, valid UTF-8, cut to at most `width` columns: what was cut ends with "…". Our own colour sequences take no
// column and are closed again. A width of 0 is no limit.
std::string CutToWidth(std::string_view text, size_t width);

}  // namespace supervisor
