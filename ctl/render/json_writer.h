#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace supervisor {

// Writes one JSON value into a string, on one line. Valid whatever goes in: malformed UTF-8 becomes U+FFFD, numbers
// that JSON cannot say become null. The caller keeps begins and ends balanced.
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);

  JsonWriter& String(std::string_view value);
  JsonWriter& Bool(bool value);
  JsonWriter& Null();
  JsonWriter& Int(int64_t value);
  JsonWriter& Unsigned(uint64_t value);
  // Rounded to thousandths: the unit is in the key, and nothing here is measured more finely.
  JsonWriter& Double(double value);
  // `text` is valid JSON already.
  JsonWriter& Raw(std::string_view text);

  // An event's details as they should be read: a JSON object stays one, anything else becomes a string; nothing is {}.
  JsonWriter& Details(std::string_view text);
  // Milliseconds since the epoch as "YYYY-MM-DD HH:MM:SS.mmm" (UTC), null for 0.
  JsonWriter& Timestamp(int64_t unix_ms);

  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }
  // What was written so far, to be printed; writing goes on behind it. For values that are too large to keep.
  std::string Drain() { return std::exchange(text_, {}); }

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Separate();

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace supervisor
