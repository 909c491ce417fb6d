#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/json_value.h"

namespace supervisor {

// Strict JSON (RFC 8259): no comments, no trailing commas, no byte order mark, no invalid UTF-8, no number beyond what
// a double holds, no key twice. Nesting and the number of values are bounded, so that no file can exhaust stack or
// memory. Pure; any thread.

struct JsonProblem {
  size_t offset = 0;
  std::string path;  // "services.web.args[1]"
  std::string message;
};

struct ParsedJson {
  std::optional<JsonValue> root;      // none where the text is no JSON
  std::vector<JsonProblem> problems;  // the syntax error, or each key that stands twice
};

struct JsonLimits {
  size_t depth = 64;
  size_t values = 500'000;
};

ParsedJson ParseJson(std::string_view text, const JsonLimits& limits = {});

// Where in the text the byte `index` of a string's value is written: escapes make the two differ. `string_offset` is
// that of the opening quote of a valid string.
size_t OffsetInString(std::string_view text, size_t string_offset, size_t index);

struct TextPosition {
  int line = 0;    // from 1
  int column = 0;  // from 1, in bytes
};

// Turns offsets into lines and columns. Keeps no reference to the text.
class LineIndex {
 public:
  explicit LineIndex(std::string_view text);
  TextPosition At(size_t offset) const;

 private:
  std::vector<size_t> starts_;
};

}  // namespace supervisor
