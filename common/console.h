#pragma once

#include <string_view>

namespace supervisor {

// What a program says to its caller: results on stdout, messages on stderr. Written with write(2), at once: stdio and
// fmt::print throw or lose the error where the descriptor is closed or its disk is full. Nothing here throws. A failed
// write is remembered, and ExitCodeOf turns the success of the program into a failure. A reader that has gone away
// (EPIPE: `supervisord --help | head -1`) is no failure. Any thread.

// All of `text`, to stdout.
void PrintOut(std::string_view text);
// All of `text`, to stderr.
void PrintError(std::string_view text);

// What main returns: `code`, but 1 in place of 0 where something could not be printed. What stdout did not take is told
// on stderr.
int ExitCodeOf(int code);

// Writes all of `data`. Waits where the descriptor is non-blocking and takes nothing at the moment: it may be shared
// with a process that has made it so. Returns 0, or the errno that ended it.
int WriteFully(int fd, std::string_view data);

}  // namespace supervisor
