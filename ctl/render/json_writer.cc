#include "ctl/render/json_writer.h"

#include <fmt/format.h>
#include <rapidjson/error/error.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <cmath>
#include <iterator>
#include <optional>

#include "absl/time/time.h"
#include "common/time_format.h"
#include "ctl/render/utf8.h"

namespace supervisor {
namespace {

// U+0080 to U+009F begin with this byte: a terminal would obey them, as it does those below U+0020.
constexpr char kLeadOfC1 = '\xC2';

void AppendQuoted(std::string& out, std::string_view value) {
  const bool valid = IsValidUtf8(value);
  const std::string repaired = valid ? std::string() : ToValidUtf8(value);
  const std::string_view text = valid ? value : std::string_view(repaired);
  out += '"';
  for (size_t i = 0; i < text.size(); ++i) {
    switch (const char c = text[i]) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case kLeadOfC1:
        if (const auto next = static_cast<unsigned char>(text[i + 1]); next < 0xA0) {  // valid: one follows
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(next));
          ++i;
        } else {
          out += c;
        }
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// Copies a JSON text, so that what comes out is on one line and known to be well-formed.
class Copier : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, Copier> {
 public:
  explicit Copier(JsonWriter& out) : out_(out) {}

  bool Null() { return Done(out_.Null()); }
  bool Bool(bool value) { return Done(out_.Bool(value)); }
  // Numbers come as they were written (kParseNumbersAsStringsFlag): no digit is lost.
  bool RawNumber(const char* text, rapidjson::SizeType size, bool) { return Done(out_.Raw({text, size})); }
  bool String(const char* text, rapidjson::SizeType size, bool) { return Done(out_.String({text, size})); }
  bool StartObject() { return Done(out_.BeginObject()); }
  bool Key(const char* text, rapidjson::SizeType size, bool) { return Done(out_.Key({text, size})); }
  bool EndObject(rapidjson::SizeType) { return Done(out_.EndObject()); }
  bool StartArray() { return Done(out_.BeginArray()); }
  bool EndArray(rapidjson::SizeType) { return Done(out_.EndArray()); }

 private:
  static bool Done(const JsonWriter&) { return true; }
  JsonWriter& out_;
};

std::optional<std::string> CopyObject(std::string_view text) {
  if (const size_t first = text.find_first_not_of(" \t\r\n"); first == std::string_view::npos || text[first] != '{') {
    return std::nullopt;
  }
  JsonWriter copy;
  Copier handler(copy);
  rapidjson::Reader reader;
  rapidjson::MemoryStream stream(text.data(), text.size());
  // Iterative: the depth of a hostile text must not become the depth of our stack.
  constexpr unsigned kFlags =
      rapidjson::kParseNumbersAsStringsFlag | rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;
  if (reader.Parse<kFlags>(stream, handler).IsError()) {
    return std::nullopt;
  }
  return copy.Take();
}

}  // namespace

void JsonWriter::Separate() {
  if (needs_comma_) {
    text_ += ',';
  }
  needs_comma_ = true;
}

JsonWriter& JsonWriter::Open(char bracket) {
  Separate();
  text_ += bracket;
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Separate();
  AppendQuoted(text_, key);
  text_ += ':';
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view value) {
  Separate();
  AppendQuoted(text_, value);
  return *this;
}

JsonWriter& JsonWriter::Raw(std::string_view text) {
  Separate();
  text_ += text;
  return *this;
}

JsonWriter& JsonWriter::Bool(bool value) { return Raw(value ? "true" : "false"); }

JsonWriter& JsonWriter::Null() { return Raw("null"); }

JsonWriter& JsonWriter::Int(int64_t value) { return Raw(fmt::format_int(value).c_str()); }

JsonWriter& JsonWriter::Unsigned(uint64_t value) { return Raw(fmt::format_int(value).c_str()); }

JsonWriter& JsonWriter::Double(double value) {
  if (!std::isfinite(value)) {
    return Null();
  }
  constexpr double kLargestExact = 9e12;  // beyond it a double has no thousandths
  const double rounded = std::abs(value) < kLargestExact ? std::round(value * 1000) / 1000 : value;
  return Raw(fmt::format("{}", rounded == 0 ? 0.0 : rounded));  // never "-0.0"
}

JsonWriter& JsonWriter::Details(std::string_view text) {
  if (text.empty()) {
    return Raw("{}");
  }
  const std::optional<std::string> object = CopyObject(text);
  return object ? Raw(*object) : String(text);
}

JsonWriter& JsonWriter::Timestamp(int64_t unix_ms) {
  return unix_ms == 0 ? Null() : String(FormatTimestamp(absl::FromUnixMillis(unix_ms)));
}

}  // namespace supervisor
