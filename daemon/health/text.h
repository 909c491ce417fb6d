#pragma once

#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace supervisor {

// How check results say things. Pure; any thread.

// What a program or server sent, made fit for a message: one line, valid UTF-8, no control characters, its last
// `most_bytes` bytes when it is longer (the end of an output tells more than its beginning).
std::string OneLineTail(std::string_view raw, size_t most_bytes);

// In double quotes, one line, shortened to some 60 characters from the front.
std::string QuotedExcerpt(std::string_view raw);

// "3 ms", "5.0 s"
std::string DurationText(absl::Duration duration);

// "connection refused" for ECONNREFUSED: strerror's text as it reads within a sentence.
std::string ErrnoPhrase(int error);

// Whether it is this process that has run out of something, which says nothing about the service checked.
bool IsOwnShortage(int error);

}  // namespace supervisor
