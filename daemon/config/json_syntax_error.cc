#include "daemon/config/json_syntax_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "daemon/config/json_parser.h"
#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string PlaceName(const JsonSyntaxContext& context, size_t offset) {
  const TextPosition at = LineIndex(context.text).At(offset);
  return fmt::format("line {}, column {}", at.line, at.column);
}

// Offset of the last byte before `offset` that is no white space.
std::optional<size_t> PreviousByte(const JsonSyntaxContext& context, size_t offset) {
  const size_t at = context.text.substr(0, offset).find_last_not_of(kSpace);
  return at == std::string_view::npos ? std::nullopt : std::optional<size_t>(at);
}

char At(const JsonSyntaxContext& context, std::optional<size_t> offset) {
  return offset && *offset < context.text.size() ? context.text[*offset] : '\0';
}

// The run of letters, digits, signs and dots at `offset`, in lower case.
std::string WordAt(const JsonSyntaxContext& context, size_t offset) {
  std::string word;
  while (offset < context.text.size()) {
    const char c = context.text[offset++];
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '+' && c != '-' && c != '.' && c != '_') {
      break;
    }
    word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return word;
}

std::string EndsTooEarly(JsonSyntaxError error, const JsonSyntaxContext& context) {
  if (error == JsonSyntaxError::kEmpty) {
    return "the file is empty (expected a JSON object: {...})";
  }
  if (At(context, context.token_start) == '"' && error != JsonSyntaxError::kNoColon) {
    return fmt::format("the file ends inside the string that begins at {} (expected a closing quote)",
                       PlaceName(context, context.token_start));
  }
  if (!context.innermost_open) {
    return "the file ends in the middle of a value";
  }
  const char open = At(context, context.innermost_open);
  return fmt::format("the file ends too early: the \"{}\" at {} is never closed (expected \"{}\")", open,
                     PlaceName(context, *context.innermost_open), open == '{' ? '}' : ']');
}

// Mistakes that can stand wherever a token was expected. Empty where it is none of them.
std::string ForeignSyntax(const JsonSyntaxContext& context) {
  const std::string_view rest = context.text.substr(context.offset);
  if (rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#')) {
    return "a comment (JSON has none: remove it)";
  }
  if (rest.starts_with('\'') || rest.starts_with('`')) {
    return "a single quote (expected double quotes: \"...\")";
  }
  if (rest.starts_with("\xe2\x80\x9c") || rest.starts_with("\xe2\x80\x9d") || rest.starts_with("\xe2\x80\x9e") ||
      rest.starts_with("\xe2\x80\x98") || rest.starts_with("\xe2\x80\x99")) {
    return "a typographic quote (expected straight double quotes: \"...\")";
  }
  if (rest.starts_with("\xc2\xa0")) {
    return "a no-break space outside a string (expected an ordinary space)";
  }
  return "";
}

JsonSyntaxMessage BadWord(const JsonSyntaxContext& context) {
  const std::string word = WordAt(context, context.token_start);
  const size_t at = context.token_start;
  if (word == "true" || word == "false" || word == "null" || word == "none") {
    return {at, fmt::format("true, false and null are written in lower case (did you mean {}?)",
                            word == "none" ? "null" : word)};
  }
  if (word == "yes" || word == "no" || word == "on" || word == "off") {
    return {at, fmt::format("\"{}\" is no JSON value (expected true or false)", word)};
  }
  if (word == "nan" || word.ends_with("inf") || word.ends_with("infinity")) {
    return {at, "is no finite number (expected digits)"};
  }
  if (word.starts_with('+') || word.starts_with('.') || word.starts_with('-')) {
    return {at, "is no JSON number (expected digits, with a minus before them where it is negative: 0.5, -3)"};
  }
  return {at, "is no JSON value (expected a string in double quotes, a number, true, false, null, {...} or [...])"};
}

JsonSyntaxMessage NoValue(const JsonSyntaxContext& context) {
  const char c = context.text[context.offset];
  const std::optional<size_t> previous = PreviousByte(context, context.offset);
  const char before = At(context, previous);
  if ((c == ']' || c == '}') && before == ',') {
    return {*previous, fmt::format("a trailing comma before \"{}\" (JSON allows none: remove it)", c)};
  }
  if (before == ':' && (c == ',' || c == '}')) {
    return {context.offset, fmt::format("the value of {} is missing", Quote(context.last_key.value_or("")))};
  }
  if (c == ',') {
    return {context.offset, "a value is missing before this comma"};
  }
  if (c == '}' || c == ']' || c == ':') {
    return {context.offset, fmt::format("\"{}\" cannot stand here (expected a value)", c)};
  }
  return BadWord(context);
}

JsonSyntaxMessage NoKey(const JsonSyntaxContext& context) {
  const char c = context.text[context.offset];
  const std::optional<size_t> previous = PreviousByte(context, context.offset);
  if (c == '}' && At(context, previous) == ',') {
    return {*previous, "a trailing comma before \"}\" (JSON allows none: remove it)"};
  }
  if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
    return {context.offset, "a key without quotes (expected it in double quotes: \"key\")"};
  }
  return {context.offset, "a key is missing (expected \"key\": value)"};
}

JsonSyntaxMessage NoComma(const JsonSyntaxContext& context, char closing) {
  const char c = context.text[context.offset];
  const std::optional<size_t> previous = PreviousByte(context, context.offset);
  const char before = At(context, previous);
  if (std::isdigit(static_cast<unsigned char>(c)) != 0 && before == '0' && *previous + 1 == context.offset) {
    return {*previous, "a number with a leading zero (remove it, or put an octal mode into quotes: \"022\")"};
  }
  if ((c == '}' || c == ']') && context.innermost_open) {
    return {context.offset,
            fmt::format("\"{}\" does not close the \"{}\" at {} (expected \"{}\")", c,
                        At(context, context.innermost_open), PlaceName(context, *context.innermost_open), closing)};
  }
  if (c == ':' || c == '=') {
    return {context.offset, fmt::format("\"{}\" cannot stand here (expected \",\" or \"{}\")", c, closing)};
  }
  return {context.offset, fmt::format("a comma is missing before this (expected \",\" or \"{}\")", closing)};
}

std::string BadEscape(const JsonSyntaxContext& context) {
  const char c = context.text[context.offset];
  if (c == '\n' || c == '\r') {
    return "a line break inside a string (close the string with a quote, or write \\n)";
  }
  if (c != '\\') {
    return fmt::format("a control character (byte 0x{:02x}) inside a string (write {})", static_cast<unsigned char>(c),
                       c == '\t' ? "\\t" : fmt::format("\\u{:04x}", static_cast<unsigned char>(c)));
  }
  return "an escape that JSON does not know (expected \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX; a backslash itself "
         "is \\\\)";
}

std::string TextAfterEnd(const JsonSyntaxContext& context) {
  const char c = context.text[context.offset];
  if (c == '}' || c == ']') {
    return fmt::format("one \"{}\" too many (the document has already ended)", c);
  }
  return "text after the end of the document (expected nothing)";
}

}  // namespace

JsonSyntaxMessage DescribeSyntaxError(JsonSyntaxError error, const JsonSyntaxContext& context) {
  if (context.offset >= context.text.size()) {
    return {context.text.size(), EndsTooEarly(error, context)};
  }
  switch (error) {
    case JsonSyntaxError::kTextAfterEnd:
    case JsonSyntaxError::kNoValue:
    case JsonSyntaxError::kNoKey:
    case JsonSyntaxError::kNoColon:
    case JsonSyntaxError::kNoCommaInObject:
    case JsonSyntaxError::kNoCommaInArray:
      if (std::string foreign = ForeignSyntax(context); !foreign.empty()) {
        return {context.offset, std::move(foreign)};
      }
      break;
    case JsonSyntaxError::kEmpty:
    case JsonSyntaxError::kBadUnicodeEscape:
    case JsonSyntaxError::kBadSurrogate:
    case JsonSyntaxError::kBadEscape:
    case JsonSyntaxError::kUnclosedString:
    case JsonSyntaxError::kBadEncoding:
    case JsonSyntaxError::kNumberTooBig:
    case JsonSyntaxError::kNoFraction:
    case JsonSyntaxError::kNoExponent:
    case JsonSyntaxError::kOther:
      break;
  }
  switch (error) {
    case JsonSyntaxError::kTextAfterEnd:
      return {context.offset, TextAfterEnd(context)};
    case JsonSyntaxError::kNoValue:
      return NoValue(context);
    case JsonSyntaxError::kNoKey:
      return NoKey(context);
    case JsonSyntaxError::kNoColon:
      return {context.offset, fmt::format("a colon is missing after the key {}", Quote(context.last_key.value_or("")))};
    case JsonSyntaxError::kNoCommaInObject:
      return NoComma(context, '}');
    case JsonSyntaxError::kNoCommaInArray:
      return NoComma(context, ']');
    case JsonSyntaxError::kBadUnicodeEscape:
      return {context.offset, "\\u without four hexadecimal digits after it"};
    case JsonSyntaxError::kBadSurrogate:
      return {context.offset, "half of a surrogate pair (characters beyond U+FFFF need both: \\ud83d\\ude00)"};
    case JsonSyntaxError::kBadEscape:
      return {context.offset, BadEscape(context)};
    case JsonSyntaxError::kBadEncoding:
      return {context.offset, fmt::format("is not UTF-8 (byte 0x{:02x}; save the file as UTF-8)",
                                          static_cast<unsigned char>(context.text[context.offset]))};
    case JsonSyntaxError::kNumberTooBig:
      return {context.token_start, "a number that is too big"};
    case JsonSyntaxError::kNoFraction:
      return {context.offset, "digits are missing after the dot of a number"};
    case JsonSyntaxError::kNoExponent:
      return {context.offset, "digits are missing after the \"e\" of a number"};
    case JsonSyntaxError::kEmpty:
    case JsonSyntaxError::kUnclosedString:
    case JsonSyntaxError::kOther:
      break;
  }
  return {context.offset, "is no valid JSON"};
}

}  // namespace supervisor
