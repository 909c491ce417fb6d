#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace supervisor {

using Environment = std::vector<std::pair<std::string, std::string>>;

// Sets or replaces.
void SetVariable(Environment& environment, const std::string& name, const std::string& value);

// Reads the text of an environment file, as sh(1) reads assignments, without any expansion: "$" and "`" are literal.
// Where sh has no meaning for a line that systemd (EnvironmentFile= of systemd.exec(5)) and dotenv accept, theirs
// holds. Pure.
//
//   NAME=value      sets one variable; the last of a name counts. Blanks around "=" and after the value are dropped;
//                   "export " before the name is. A name is letters, digits and "_".
//   # or ;          at the start of a line: a comment. " #" after a value begins one too; "a#b" is a value.
//   unquoted        a backslash stands for the character after it, and before a line's end joins the next line. Blanks
//                   within are kept (systemd), and so are quotes within: {"a": "b"} is a value.
//   'single'        everything is literal, line ends too.
//   "double"        a backslash escapes only " \ $ ` and a line's end, which it removes; elsewhere it is literal.
//   "a"'b'c         what touches is joined.
//
// A byte order mark at the start is skipped, and the line ends of Windows are read as line ends. The error names the
// line, and never the value.
absl::StatusOr<Environment> ParseEnvironmentFile(std::string_view text);

}  // namespace supervisor
