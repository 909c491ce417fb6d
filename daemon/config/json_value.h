#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

enum class JsonKind { kNull, kBool, kNumber, kString, kArray, kObject };

struct JsonMember;

// A JSON value that knows where in the text it begins, so that whoever finds it wrong can say where. Made by ParseJson;
// owns what is below it.
struct JsonValue {
  JsonValue();
  JsonValue(JsonKind value_kind, size_t value_offset);

  JsonKind kind = JsonKind::kNull;
  bool boolean = false;
  double number = 0;
  std::string text;                  // a string's value; a number as it was written
  std::vector<JsonMember> children;  // an object's members, an array's elements (without keys)
  size_t offset = 0;                 // of the first byte: a string's quote, an object's brace

  // The member of that name, or null. Of a key given twice the first.
  const JsonMember* Find(std::string_view key) const;
};

struct JsonMember {
  std::string key;
  size_t key_offset = 0;
  JsonValue value;
};

// Here, where JsonMember is complete: constructors instantiate the vector of it.
inline JsonValue::JsonValue() = default;
inline JsonValue::JsonValue(JsonKind value_kind, size_t value_offset) : kind(value_kind), offset(value_offset) {}

inline const JsonMember* JsonValue::Find(std::string_view key) const {
  for (const JsonMember& member : children) {
    if (kind == JsonKind::kObject && member.key == key) {
      return &member;
    }
  }
  return nullptr;
}

}  // namespace supervisor
