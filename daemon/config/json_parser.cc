#include "daemon/config/json_parser.h"

#include <fmt/format.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "daemon/config/json_syntax_error.h"
#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr size_t kShortEscape = 2;    // \n
constexpr size_t kUnicodeEscape = 6;  // \u20ac

// Receives RapidJSON's events and builds the tree. RapidJSON tells where it stands, not where a token began: that is
// the first byte after the last token that is neither white space nor punctuation.
class TreeBuilder : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, TreeBuilder> {
 public:
  TreeBuilder(std::string_view text, const rapidjson::MemoryStream& stream, const JsonLimits& limits)
      : text_(text), stream_(stream), limits_(limits) {}

  // NOLINTBEGIN(readability-identifier-naming): RapidJSON's names
  bool Null() { return AddScalar(JsonValue(JsonKind::kNull, TokenStart())); }
  bool Bool(bool value) {
    JsonValue added(JsonKind::kBool, TokenStart());
    added.boolean = value;
    return AddScalar(std::move(added));
  }
  bool RawNumber(const char* digits, rapidjson::SizeType length, bool copy);
  bool String(const char* data, rapidjson::SizeType length, bool copy);
  bool Key(const char* data, rapidjson::SizeType length, bool copy);
  bool StartObject() { return Open(JsonKind::kObject); }
  bool StartArray() { return Open(JsonKind::kArray); }
  bool EndObject(rapidjson::SizeType count) { return Close(count); }
  bool EndArray(rapidjson::SizeType count) { return Close(count); }
  // NOLINTEND(readability-identifier-naming)

  JsonValue TakeRoot() { return std::move(root_); }
  const std::optional<JsonProblem>& problem() const { return problem_; }

  size_t TokenStart() const { return std::min(text_.find_first_not_of(" \t\r\n,:", end_of_last_), text_.size()); }
  std::string ContainerPath() const;
  JsonSyntaxContext Context(size_t offset) const;

 private:
  bool Fail(size_t offset, std::string message) {
    problem_ = JsonProblem{offset, ContainerPath(), std::move(message)};
    return false;
  }
  JsonValue* Add(JsonValue value);
  bool AddScalar(JsonValue value);
  bool Open(JsonKind kind);
  bool Close(size_t count);
  bool CheckString(size_t start, std::string_view value);

  const std::string_view text_;
  const rapidjson::MemoryStream& stream_;
  const JsonLimits limits_;
  JsonValue root_;
  std::vector<JsonValue*> open_;  // a container's vector does not grow while a child of it is open, so these stay valid
  size_t values_ = 0;
  size_t end_of_last_ = 0;
  std::optional<JsonProblem> problem_;
};

std::string TreeBuilder::ContainerPath() const {
  std::string path;
  for (size_t i = 0; i + 1 < open_.size(); ++i) {
    const JsonValue& container = *open_[i];
    path = container.kind == JsonKind::kObject ? KeyPath(path, container.children.back().key)
                                               : ElementPath(path, container.children.size() - 1);
  }
  return path;
}

JsonSyntaxContext TreeBuilder::Context(size_t offset) const {
  JsonSyntaxContext context{
      .text = text_, .offset = offset, .token_start = TokenStart(), .innermost_open = std::nullopt};
  if (!open_.empty()) {
    context.innermost_open = open_.back()->offset;
    if (!open_.back()->children.empty()) {
      context.last_key = open_.back()->children.back().key;
    }
  }
  return context;
}

JsonValue* TreeBuilder::Add(JsonValue value) {
  if (++values_ > limits_.values) {
    Fail(value.offset, fmt::format("the file holds too many values (at most {})", limits_.values));
    return nullptr;
  }
  if (open_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  JsonValue& parent = *open_.back();
  if (parent.kind == JsonKind::kArray) {
    parent.children.emplace_back();
  }
  parent.children.back().value = std::move(value);
  return &parent.children.back().value;
}

bool TreeBuilder::AddScalar(JsonValue value) {
  end_of_last_ = stream_.Tell();
  return Add(std::move(value)) != nullptr;
}

bool TreeBuilder::RawNumber(const char* /*digits*/, rapidjson::SizeType /*length*/, bool /*copy*/) {
  const size_t start = TokenStart();
  JsonValue value(JsonKind::kNumber, start);
  value.text = text_.substr(start, stream_.Tell() - start);
  const char* end = value.text.data() + value.text.size();
  const auto [rest, error] = std::from_chars(value.text.data(), end, value.number);
  if (error != std::errc() || rest != end || !std::isfinite(value.number)) {
    return Fail(start, "a number that is too big or too small");
  }
  return AddScalar(std::move(value));
}

// RapidJSON lets the second half of a surrogate pair stand alone, which would become invalid UTF-8.
bool TreeBuilder::CheckString(size_t start, std::string_view value) {
  if (IsValidUtf8(value)) {
    return true;
  }
  JsonSyntaxMessage message = DescribeSyntaxError(JsonSyntaxError::kBadSurrogate, Context(start));
  return Fail(message.offset, std::move(message.message));
}

bool TreeBuilder::String(const char* data, rapidjson::SizeType length, bool /*copy*/) {
  JsonValue value(JsonKind::kString, TokenStart());
  value.text.assign(data, length);
  return CheckString(value.offset, value.text) && AddScalar(std::move(value));
}

bool TreeBuilder::Key(const char* data, rapidjson::SizeType length, bool /*copy*/) {
  const size_t start = TokenStart();
  if (!CheckString(start, std::string_view(data, length))) {
    return false;
  }
  JsonMember& member = open_.back()->children.emplace_back();
  member.key.assign(data, length);
  member.key_offset = start;
  end_of_last_ = stream_.Tell();
  return true;
}

bool TreeBuilder::Open(JsonKind kind) {
  const size_t start = stream_.Tell();
  if (open_.size() >= limits_.depth) {
    return Fail(start, fmt::format("is nested too deep (at most {} levels)", limits_.depth));
  }
  JsonValue* added = Add(JsonValue(kind, start));
  if (added == nullptr) {
    return false;
  }
  open_.push_back(added);
  end_of_last_ = start + 1;
  return true;
}

bool TreeBuilder::Close(size_t /*count*/) {
  open_.pop_back();
  end_of_last_ = stream_.Tell() + 1;
  return true;
}

JsonSyntaxError FromRapidJson(rapidjson::ParseErrorCode code) {
  switch (code) {
    case rapidjson::kParseErrorDocumentEmpty:
      return JsonSyntaxError::kEmpty;
    case rapidjson::kParseErrorDocumentRootNotSingular:
      return JsonSyntaxError::kTextAfterEnd;
    case rapidjson::kParseErrorValueInvalid:
      return JsonSyntaxError::kNoValue;
    case rapidjson::kParseErrorObjectMissName:
      return JsonSyntaxError::kNoKey;
    case rapidjson::kParseErrorObjectMissColon:
      return JsonSyntaxError::kNoColon;
    case rapidjson::kParseErrorObjectMissCommaOrCurlyBracket:
      return JsonSyntaxError::kNoCommaInObject;
    case rapidjson::kParseErrorArrayMissCommaOrSquareBracket:
      return JsonSyntaxError::kNoCommaInArray;
    case rapidjson::kParseErrorStringUnicodeEscapeInvalidHex:
      return JsonSyntaxError::kBadUnicodeEscape;
    case rapidjson::kParseErrorStringUnicodeSurrogateInvalid:
      return JsonSyntaxError::kBadSurrogate;
    case rapidjson::kParseErrorStringEscapeInvalid:
      return JsonSyntaxError::kBadEscape;
    case rapidjson::kParseErrorStringMissQuotationMark:
      return JsonSyntaxError::kUnclosedString;
    case rapidjson::kParseErrorStringInvalidEncoding:
      return JsonSyntaxError::kBadEncoding;
    case rapidjson::kParseErrorNumberTooBig:
      return JsonSyntaxError::kNumberTooBig;
    case rapidjson::kParseErrorNumberMissFraction:
      return JsonSyntaxError::kNoFraction;
    case rapidjson::kParseErrorNumberMissExponent:
      return JsonSyntaxError::kNoExponent;
    case rapidjson::kParseErrorNone:
    case rapidjson::kParseErrorTermination:
    case rapidjson::kParseErrorUnspecificSyntaxError:
      break;
  }
  return JsonSyntaxError::kOther;
}

// What no JSON text can hold, found before the parser sees it: RapidJSON takes a NUL for the end of the text.
std::optional<JsonProblem> WrongBytes(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) {
    return JsonProblem{0, "", "begins with a byte order mark (save the file as UTF-8 without one)"};
  }
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) {
    return JsonProblem{0, "", "is written in UTF-16 (save the file as UTF-8)"};
  }
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return JsonProblem{nul, "", "a NUL byte (JSON is text: was the file cut off or overwritten?)"};
  }
  return std::nullopt;
}

void FindDuplicateKeys(const JsonValue& value, const std::string& path, const LineIndex& lines,
                       std::vector<JsonProblem>& problems) {
  if (value.kind == JsonKind::kObject) {
    std::vector<const JsonMember*> members;
    members.reserve(value.children.size());
    for (const JsonMember& member : value.children) {
      members.push_back(&member);
    }
    std::sort(members.begin(), members.end(), [](const JsonMember* a, const JsonMember* b) {
      return std::pair(std::string_view(a->key), a->key_offset) < std::pair(std::string_view(b->key), b->key_offset);
    });
    const JsonMember* first = nullptr;
    for (const JsonMember* member : members) {
      if (first == nullptr || first->key != member->key) {
        first = member;
        continue;
      }
      const TextPosition at = lines.At(first->key_offset);
      problems.push_back({member->key_offset, KeyPath(path, member->key),
                          fmt::format("duplicate key (it already stands at line {}, column {})", at.line, at.column)});
    }
  }
  for (size_t i = 0; i < value.children.size(); ++i) {
    const JsonMember& child = value.children[i];
    if (!child.value.children.empty()) {
      const std::string child_path = value.kind == JsonKind::kObject ? KeyPath(path, child.key) : ElementPath(path, i);
      FindDuplicateKeys(child.value, child_path, lines, problems);
    }
  }
}

}  // namespace

ParsedJson ParseJson(std::string_view text, const JsonLimits& limits) {
  ParsedJson result;
  if (std::optional<JsonProblem> wrong = WrongBytes(text)) {
    result.problems.push_back(*std::move(wrong));
    return result;
  }
  rapidjson::MemoryStream stream(text.data(), text.size());
  TreeBuilder builder(text, stream, limits);
  rapidjson::Reader reader;
  constexpr unsigned kFlags =
      rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag | rapidjson::kParseNumbersAsStringsFlag;
  const rapidjson::ParseResult parsed = reader.Parse<kFlags>(stream, builder);
  if (builder.problem()) {
    result.problems.push_back(*builder.problem());
  } else if (parsed.IsError()) {
    JsonSyntaxMessage message = DescribeSyntaxError(FromRapidJson(parsed.Code()), builder.Context(parsed.Offset()));
    result.problems.push_back({message.offset, builder.ContainerPath(), std::move(message.message)});
  } else {
    result.root = builder.TakeRoot();
    FindDuplicateKeys(*result.root, "", LineIndex(text), result.problems);
  }
  return result;
}

size_t OffsetInString(std::string_view text, size_t string_offset, size_t index) {
  size_t at = string_offset + 1;
  size_t decoded = 0;
  while (at < text.size() && text[at] != '"') {
    size_t written = 1;
    size_t bytes = 1;
    if (text[at] == '\\' && at + 1 < text.size() && text[at + 1] != 'u') {
      written = kShortEscape;
    } else if (text[at] == '\\') {
      unsigned code = 0;
      const std::string_view digits = text.substr(at).substr(0, kUnicodeEscape).substr(kShortEscape);
      std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
      const bool is_pair = code >= 0xd800 && code <= 0xdbff;
      written = is_pair ? 2 * kUnicodeEscape : kUnicodeEscape;
      bytes = is_pair ? 4 : code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
    }
    if (decoded + bytes > index) {
      break;
    }
    decoded += bytes;
    at += written;
  }
  return std::min(at, text.size());
}

LineIndex::LineIndex(std::string_view text) : starts_{0} {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      starts_.push_back(i + 1);
    }
  }
}

TextPosition LineIndex::At(size_t offset) const {
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), offset);
  const auto line = static_cast<size_t>(after - starts_.begin());
  return {.line = static_cast<int>(line), .column = static_cast<int>(offset - starts_[line - 1]) + 1};
}

}  // namespace supervisor
