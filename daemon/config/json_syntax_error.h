#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace supervisor {

// What a JSON parser complains of, whichever parser it is.
enum class JsonSyntaxError {
  kEmpty,
  kTextAfterEnd,
  kNoValue,
  kNoKey,
  kNoColon,
  kNoCommaInObject,
  kNoCommaInArray,
  kBadUnicodeEscape,
  kBadSurrogate,
  kBadEscape,  // or a control character in a string
  kUnclosedString,
  kBadEncoding,
  kNumberTooBig,
  kNoFraction,
  kNoExponent,
  kOther,
};

// Where the parser stood when it gave up.
struct JsonSyntaxContext {
  std::string_view text;
  size_t offset = 0;                         // where it complains
  size_t token_start = 0;                    // of the token it was reading
  std::optional<size_t> innermost_open;      // offset of the last "{" or "[" that is still open
  std::optional<std::string> last_key = {};  // the last key of that object
};

struct JsonSyntaxMessage {
  size_t offset = 0;  // where a reader should look, which can be before the place where the parser noticed
  std::string message;
};

// Says it for someone who edits the file in a hurry: names the mistake that is likely (a trailing comma, a comment, a
// missing quote) rather than the grammar's rule. Never quotes a value, which may be a secret. Pure.
JsonSyntaxMessage DescribeSyntaxError(JsonSyntaxError error, const JsonSyntaxContext& context);

}  // namespace supervisor
