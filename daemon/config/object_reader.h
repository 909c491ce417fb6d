#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/config/config_source.h"
#include "daemon/config/json_value.h"

namespace supervisor {

// A string of the file with its place, for what is checked later.
struct PlacedText {
  std::string text;
  std::string path;
  size_t offset = 0;
};

// Reads the members of one JSON object, each by the key and type the caller names, and reports what does not fit.
// A key that is absent or wrong leaves the output as it is, so outputs begin with the defaults. Finish reports the
// members that nobody asked for. Lives while its object is read; borrows context and value.
class ObjectReader {
 public:
  // A name that other supervisors use for a key here, or a key that belongs elsewhere: {"cwd", "working_directory"}.
  using Hint = std::pair<std::string_view, std::string_view>;
  // Gives a sentence about a plain text (with instance 0 where it has instances), or nothing.
  using Check = std::function<std::optional<std::string>(const std::string&)>;
  template <typename E>
  using Choice = std::pair<std::string_view, E>;

  // `value` null: absent, so nothing is found. `offset` is where a reader of the file looks for it: its key.
  ObjectReader(const ReadContext& context, const JsonValue* value, std::string path, size_t offset);

  bool present() const { return object_ != nullptr; }
  const std::string& path() const { return path_; }
  size_t offset() const { return offset_; }
  std::string PathOf(std::string_view key) const;

  const JsonMember* Take(std::string_view key);
  ObjectReader Object(std::string_view key);
  std::vector<ObjectReader> Objects(std::string_view key);  // of a list

  // At the key's value; where it is absent, at the object.
  void Report(std::string_view key, std::string message);
  void ReportAt(size_t offset, std::string path, std::string message);

  void Bool(std::string_view key, bool* out);
  void Number(std::string_view key, double least, double most, double* out);
  void Seconds(std::string_view key, double least, absl::Duration* out);
  void Days(std::string_view key, absl::Duration* out);
  template <std::integral T>
  void Whole(std::string_view key, int least, int most, T* out) {
    if (const std::optional<int> value = ReadWhole(key, least, most)) {
      *out = static_cast<T>(*value);
    }
  }
  void WholeList(std::string_view key, int least, int most, std::vector<int>* out);

  // True where the key is there and right.
  bool String(std::string_view key, std::string* out, const Check& check = nullptr);
  // Made absolute against the file's directory. An empty one stays empty.
  bool Path(std::string_view key, std::string* out, const Check& check = nullptr);
  void Signal(std::string_view key, int* out);
  template <std::unsigned_integral T>
  void OctalMode(std::string_view key, T* out) {
    if (const std::optional<unsigned> mode = ReadOctalMode(key)) {
      *out = static_cast<T>(*mode);
    }
  }
  // "command" and "args". A command with a slash is made absolute.
  void Command(CommandConfig* out);

  std::vector<PlacedText> Texts(std::string_view key, const Check& check = nullptr);
  // One element of a list, for lists of mixed types. REQUIRES: the key is there, its value a list that is long enough.
  std::optional<std::string> ElementText(std::string_view key, size_t index, std::string_view expected);
  void ReportElement(std::string_view key, size_t index, std::string message);
  // A list whose elements may each be a string or an object that says more: exactly one of the two is set.
  struct TextOrObject;
  std::vector<TextOrObject> TextsOrObjects(std::string_view key, std::string_view expected);
  // "service" of {"service": "db"}, with the place of its value. Nothing where it is absent or wrong.
  std::optional<PlacedText> Placed(std::string_view key);
  // Like Texts; one listed twice is an error.
  std::vector<PlacedText> DistinctTexts(std::string_view key, const Check& check = nullptr);
  void Map(std::string_view key, const std::function<std::optional<std::string>(std::string_view)>& check_name,
           const Check& check_value, std::map<std::string, std::string>* out);

  // True where the key is there and right.
  template <typename E, size_t N, typename T>
  bool Enum(std::string_view key, const Choice<E> (&choices)[N], T* out) {
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) {
      names.emplace_back(name);
    }
    const std::optional<size_t> index = ReadChoice(key, names);
    if (index) {
      *out = T(choices[*index].second);
    }
    return index.has_value();
  }

  void Finish(std::span<const Hint> hints = {});
  void Finish(std::initializer_list<Hint> hints) { Finish(std::span(hints.begin(), hints.size())); }

 private:
  std::optional<int> ReadWhole(std::string_view key, int least, int most);
  std::optional<double> ReadNumber(std::string_view key, double least, double most, std::string_view unit);
  std::optional<unsigned> ReadOctalMode(std::string_view key);
  std::optional<size_t> ReadChoice(std::string_view key, const std::vector<std::string>& names);
  // The string with variables replaced, in the form that the context's instance rule says.
  std::optional<std::string> ReadText(const JsonValue& value, const std::string& path, std::string_view expected);
  std::optional<std::string> ReadChecked(const JsonValue& value, const std::string& path, const Check& check);
  std::string Plain(const std::string& text) const;
  std::string Absolute(const std::string& text) const;
  std::string UnknownKey(const std::string& key, std::span<const Hint> hints) const;

  const ReadContext& context_;
  const JsonValue* object_ = nullptr;
  std::string path_;
  size_t offset_;
  std::vector<std::string> known_;
};

struct ObjectReader::TextOrObject {
  std::optional<PlacedText> text;
  std::optional<ObjectReader> object;
};

// "is the string "8080"", "is null". `show`: also what it holds, for what cannot be a secret.
std::string DescribeValue(const JsonValue& value, bool show);

}  // namespace supervisor
