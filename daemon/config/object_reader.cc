#include "daemon/config/object_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <csignal>
#include <set>

#include "common/signal_names.h"
#include "daemon/config/config_file.h"
#include "daemon/config/message_text.h"
#include "daemon/config/value_rules.h"

namespace supervisor {
namespace {

constexpr double kMostSeconds = 10.0 * 365 * 24 * 3600;
constexpr double kMostDays = 100.0 * 365;
constexpr size_t kLongestKeyList = 32;

std::string Lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

bool IsReplaced(const JsonValue& value) { return value.text.find("${") != std::string::npos; }

// What the file says; not what a variable held, which may be a secret.
std::string DescribeString(const JsonValue& value) {
  return fmt::format("is {}{}", Quote(value.text), IsReplaced(value) ? ", whose value does not fit" : "");
}

std::vector<std::string> SignalNames() {
  std::vector<std::string> names;
  for (int signal = 1; signal <= SIGSYS; ++signal) {
    names.push_back(SignalName(signal));
  }
  return names;
}

}  // namespace

std::string DescribeValue(const JsonValue& value, bool show) {
  switch (value.kind) {
    case JsonKind::kNull:
      return "is null";
    case JsonKind::kBool:
      return value.boolean ? "is true" : "is false";
    case JsonKind::kNumber:
      return show ? fmt::format("is {}", value.text.substr(0, 40)) : "is a number";
    case JsonKind::kString:
      return show ? fmt::format("is the string {}", Quote(value.text)) : "is a string";
    case JsonKind::kArray:
      return "is a list";
    case JsonKind::kObject:
      return "is an object";
  }
  return "";
}

ObjectReader::ObjectReader(const ReadContext& context, const JsonValue* value, std::string path, size_t offset)
    : context_(context), path_(std::move(path)), offset_(offset) {
  if (value == nullptr) {
    return;
  }
  if (value->kind == JsonKind::kObject) {
    object_ = value;
  } else {
    ReportAt(value->offset, path_, fmt::format("{} (expected an object: {{...}})", DescribeValue(*value, false)));
  }
}

std::string ObjectReader::PathOf(std::string_view key) const { return KeyPath(path_, key); }

void ObjectReader::ReportAt(size_t offset, std::string path, std::string message) {
  context_.errors.Add(context_.source, offset, std::move(path), std::move(message));
}

void ObjectReader::Report(std::string_view key, std::string message) {
  const JsonMember* member = object_ == nullptr ? nullptr : object_->Find(key);
  ReportAt(member == nullptr ? offset_ : member->value.offset, PathOf(key), std::move(message));
}

const JsonMember* ObjectReader::Take(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
    known_.emplace_back(key);
  }
  return object_ == nullptr ? nullptr : object_->Find(key);
}

ObjectReader ObjectReader::Object(std::string_view key) {
  const JsonMember* member = Take(key);
  return {context_, member == nullptr ? nullptr : &member->value, PathOf(key),
          member == nullptr ? offset_ : member->key_offset};
}

std::vector<ObjectReader> ObjectReader::Objects(std::string_view key) {
  std::vector<ObjectReader> objects;
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return objects;
  }
  if (member->value.kind != JsonKind::kArray) {
    Report(key, fmt::format("{} (expected a list of objects: [{{...}}])", DescribeValue(member->value, false)));
    return objects;
  }
  for (size_t i = 0; i < member->value.children.size(); ++i) {
    const JsonValue& value = member->value.children[i].value;
    objects.emplace_back(context_, &value, ElementPath(PathOf(key), i), value.offset);
  }
  return objects;
}

void ObjectReader::Bool(std::string_view key, bool* out) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return;
  }
  if (member->value.kind == JsonKind::kBool) {
    *out = member->value.boolean;
    return;
  }
  const bool is_string = member->value.kind == JsonKind::kString;
  Report(key, fmt::format("{} (expected true or false{})", DescribeValue(member->value, true),
                          is_string ? ", without quotes" : ""));
}

std::optional<double> ObjectReader::ReadNumber(std::string_view key, double least, double most, std::string_view unit) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return std::nullopt;
  }
  const JsonValue& value = member->value;
  if (value.kind == JsonKind::kNumber && value.number >= least && value.number <= most) {
    return value.number;
  }
  Report(key, fmt::format("{} (expected {} from {} to {}{})", DescribeValue(value, true), unit, least, most,
                          value.kind == JsonKind::kString ? ", without quotes" : ""));
  return std::nullopt;
}

void ObjectReader::Number(std::string_view key, double least, double most, double* out) {
  *out = ReadNumber(key, least, most, "a number").value_or(*out);
}

void ObjectReader::Seconds(std::string_view key, double least, absl::Duration* out) {
  if (const std::optional<double> seconds = ReadNumber(key, least, kMostSeconds, "seconds")) {
    *out = absl::Seconds(*seconds);
  }
}

void ObjectReader::Days(std::string_view key, absl::Duration* out) {
  if (const std::optional<double> days = ReadNumber(key, 0, kMostDays, "days")) {
    *out = absl::Hours(24) * *days;
  }
}

std::optional<int> ObjectReader::ReadWhole(std::string_view key, int least, int most) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return std::nullopt;
  }
  const JsonValue& value = member->value;
  if (value.kind == JsonKind::kNumber && value.number >= least && value.number <= most &&
      std::trunc(value.number) == value.number) {
    return static_cast<int>(value.number);
  }
  Report(key, fmt::format("{} (expected a whole number from {} to {}{})", DescribeValue(value, true), least, most,
                          value.kind == JsonKind::kString ? ", without quotes" : ""));
  return std::nullopt;
}

void ObjectReader::WholeList(std::string_view key, int least, int most, std::vector<int>* out) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return;
  }
  if (member->value.kind != JsonKind::kArray) {
    Report(key, fmt::format("{} (expected a list of whole numbers, such as [{}])", DescribeValue(member->value, true),
                            least));
    return;
  }
  std::vector<int> numbers;
  for (size_t i = 0; i < member->value.children.size(); ++i) {
    const JsonValue& value = member->value.children[i].value;
    const bool is_whole = value.kind == JsonKind::kNumber && std::trunc(value.number) == value.number;
    if (!is_whole || value.number < least || value.number > most) {
      ReportAt(value.offset, ElementPath(PathOf(key), i),
               fmt::format("{} (expected a whole number from {} to {})", DescribeValue(value, true), least, most));
    } else if (std::find(numbers.begin(), numbers.end(), static_cast<int>(value.number)) != numbers.end()) {
      ReportAt(value.offset, ElementPath(PathOf(key), i),
               fmt::format("{} is listed twice", static_cast<int>(value.number)));
    } else {
      numbers.push_back(static_cast<int>(value.number));
    }
  }
  *out = std::move(numbers);
}

std::optional<std::string> ObjectReader::ReadText(const JsonValue& value, const std::string& path,
                                                  std::string_view expected) {
  if (value.kind != JsonKind::kString) {
    const bool is_scalar = value.kind == JsonKind::kNumber || value.kind == JsonKind::kBool;
    ReportAt(value.offset, path,
             fmt::format("{} (expected {}{})", DescribeValue(value, false), expected,
                         is_scalar ? ": put it into quotes" : ""));
    return std::nullopt;
  }
  if (const size_t nul = value.text.find('\0'); nul != std::string::npos) {
    ReportAt(OffsetInString(context_.source.text(), value.offset, nul), path,
             "holds a NUL character (\\u0000), which would end the string for every program (remove it)");
    return std::nullopt;
  }
  Interpolated result = Interpolate(value.text, context_.environment, context_.instance_rule);
  for (InterpolationProblem& problem : result.problems) {
    ReportAt(OffsetInString(context_.source.text(), value.offset, problem.offset), path, std::move(problem.message));
  }
  return result.problems.empty() ? std::optional<std::string>(std::move(result.text)) : std::nullopt;
}

std::string ObjectReader::Plain(const std::string& text) const {
  return context_.instance_rule == InstanceRule::kKeep ? ReplaceInstance(text, 0) : text;
}

std::string ObjectReader::Absolute(const std::string& text) const {
  const std::string& directory = context_.source.directory();
  return AbsolutePath(context_.instance_rule == InstanceRule::kKeep ? KeepLiteral(directory) : directory, text);
}

std::optional<std::string> ObjectReader::ReadChecked(const JsonValue& value, const std::string& path,
                                                     const Check& check) {
  std::optional<std::string> text = ReadText(value, path, "a string");
  if (text && check != nullptr) {
    if (std::optional<std::string> problem = check(Plain(*text))) {
      ReportAt(value.offset, path, *std::move(problem));
      return std::nullopt;
    }
  }
  return text;
}

bool ObjectReader::String(std::string_view key, std::string* out, const Check& check) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return false;
  }
  std::optional<std::string> text = ReadChecked(member->value, PathOf(key), check);
  if (!text) {
    return false;
  }
  *out = *std::move(text);
  return true;
}

bool ObjectReader::Path(std::string_view key, std::string* out, const Check& check) {
  const auto check_path = [&check, this](const std::string& text) {
    std::optional<std::string> problem = PathProblem(text);
    return problem || check == nullptr || text.empty() ? problem
                                                       : check(AbsolutePath(context_.source.directory(), text));
  };
  std::string path;
  if (!String(key, &path, check_path)) {
    return false;
  }
  *out = path.empty() ? "" : Absolute(path);
  return true;
}

void ObjectReader::Signal(std::string_view key, int* out) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return;
  }
  const std::optional<std::string> name =
      ReadText(member->value, PathOf(key), "the name of a signal, such as \"SIGTERM\"");
  if (!name) {
    return;
  }
  if (const std::optional<int> signal = ParseSignal(*name)) {
    *out = *signal;
    return;
  }
  const std::string near = IsReplaced(member->value) ? "" : DidYouMean(*name, SignalNames());
  Report(key, fmt::format("{} ({}expected a signal such as \"SIGTERM\")", DescribeString(member->value),
                          near.empty() ? "" : near + " "));
}

std::optional<unsigned> ObjectReader::ReadOctalMode(std::string_view key) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return std::nullopt;
  }
  constexpr std::string_view kExpected = "a string of octal digits, such as \"022\" or \"0660\"";
  const std::optional<std::string> text = ReadText(member->value, PathOf(key), kExpected);
  if (!text) {
    return std::nullopt;
  }
  const std::optional<unsigned> mode = ParseOctalMode(*text);
  if (!mode) {
    Report(key, fmt::format("{} (expected {}, at most \"0777\")", DescribeString(member->value), kExpected));
  }
  return mode;
}

void ObjectReader::Command(CommandConfig* out) {
  std::string command;
  const auto check = [](const std::string& text) {
    std::optional<std::string> problem = PathProblem(text);
    return problem || text.empty() ? problem : CommandProblem(text);
  };
  if (String("command", &command, check)) {
    out->command = command.find('/') != std::string::npos ? Absolute(command) : command;
  }
  std::vector<std::string> args;
  for (PlacedText& arg : Texts("args")) {
    args.push_back(std::move(arg.text));
  }
  out->args = std::move(args);
}

std::vector<PlacedText> ObjectReader::Texts(std::string_view key, const Check& check) {
  const JsonMember* member = Take(key);
  std::vector<PlacedText> texts;
  if (member == nullptr) {
    return texts;
  }
  if (member->value.kind != JsonKind::kArray) {
    const bool is_string = member->value.kind == JsonKind::kString;
    Report(key, fmt::format("{} (expected a list of strings: {})", DescribeValue(member->value, false),
                            is_string ? "put it into brackets, [\"...\"]" : "[\"...\"]"));
    return texts;
  }
  for (size_t i = 0; i < member->value.children.size(); ++i) {
    const JsonValue& value = member->value.children[i].value;
    std::string path = ElementPath(PathOf(key), i);
    if (std::optional<std::string> text = ReadChecked(value, path, check)) {
      texts.push_back({*std::move(text), std::move(path), value.offset});
    }
  }
  return texts;
}

std::optional<std::string> ObjectReader::ElementText(std::string_view key, size_t index, std::string_view expected) {
  return ReadText(Take(key)->value.children[index].value, ElementPath(PathOf(key), index), expected);
}

void ObjectReader::ReportElement(std::string_view key, size_t index, std::string message) {
  ReportAt(Take(key)->value.children[index].value.offset, ElementPath(PathOf(key), index), std::move(message));
}

std::vector<ObjectReader::TextOrObject> ObjectReader::TextsOrObjects(std::string_view key, std::string_view expected) {
  const JsonMember* member = Take(key);
  std::vector<TextOrObject> elements;
  if (member == nullptr) {
    return elements;
  }
  if (member->value.kind != JsonKind::kArray) {
    Report(key, fmt::format("{} (expected a list of {}: put it into brackets, [...])",
                            DescribeValue(member->value, false), expected));
    return elements;
  }
  for (size_t i = 0; i < member->value.children.size(); ++i) {
    const JsonValue& value = member->value.children[i].value;
    std::string path = ElementPath(PathOf(key), i);
    if (value.kind == JsonKind::kObject) {
      elements.push_back({.text = {}, .object = ObjectReader(context_, &value, std::move(path), value.offset)});
    } else if (value.kind != JsonKind::kString) {
      ReportAt(value.offset, std::move(path),
               fmt::format("{} (expected one of {})", DescribeValue(value, false), expected));
    } else if (std::optional<std::string> text = ReadChecked(value, path, nullptr)) {
      elements.push_back({.text = PlacedText{*std::move(text), std::move(path), value.offset}, .object = {}});
    }
  }
  return elements;
}

std::optional<PlacedText> ObjectReader::Placed(std::string_view key) {
  std::string text;
  const JsonMember* member = Take(key);
  if (member == nullptr || !String(key, &text)) {
    return std::nullopt;
  }
  return PlacedText{std::move(text), PathOf(key), member->value.offset};
}

std::vector<PlacedText> ObjectReader::DistinctTexts(std::string_view key, const Check& check) {
  std::vector<PlacedText> distinct;
  std::set<std::string> seen;
  for (PlacedText& text : Texts(key, check)) {
    if (seen.insert(text.text).second) {
      distinct.push_back(std::move(text));
    } else {
      ReportAt(text.offset, std::move(text.path), fmt::format("{} is listed twice", Quote(text.text)));
    }
  }
  return distinct;
}

void ObjectReader::Map(std::string_view key,
                       const std::function<std::optional<std::string>(std::string_view)>& check_name,
                       const Check& check_value, std::map<std::string, std::string>* out) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return;
  }
  if (member->value.kind != JsonKind::kObject) {
    Report(key, fmt::format("{} (expected an object: {{\"NAME\": \"value\"}})", DescribeValue(member->value, false)));
    return;
  }
  for (const JsonMember& entry : member->value.children) {
    const std::string entry_path = KeyPath(PathOf(key), entry.key);
    if (std::optional<std::string> problem = check_name(entry.key)) {
      ReportAt(entry.key_offset, entry_path, *std::move(problem));
    }
    if (std::optional<std::string> text = ReadChecked(entry.value, entry_path, check_value)) {
      out->emplace(entry.key, *std::move(text));
    }
  }
}

std::optional<size_t> ObjectReader::ReadChoice(std::string_view key, const std::vector<std::string>& names) {
  const JsonMember* member = Take(key);
  if (member == nullptr) {
    return std::nullopt;
  }
  const std::optional<std::string> text = ReadText(member->value, PathOf(key), QuotedChoices(names));
  if (!text) {
    return std::nullopt;
  }
  const auto found = std::find(names.begin(), names.end(), *text);
  if (found != names.end()) {
    return static_cast<size_t>(found - names.begin());
  }
  const std::string near = IsReplaced(member->value) || names.size() == 1 ? "" : DidYouMean(*text, names);
  Report(key, fmt::format("{} ({}expected {})", DescribeString(member->value), near.empty() ? "" : near + " ",
                          QuotedChoices(names)));
  return std::nullopt;
}

std::string ObjectReader::UnknownKey(const std::string& key, std::span<const Hint> hints) const {
  const std::string lower = Lower(key);
  const auto hint =
      std::find_if(hints.begin(), hints.end(), [&lower](const auto& entry) { return entry.first == lower; });
  if (hint != hints.end()) {
    return fmt::format("unknown key (did you mean {}?)", Quote(hint->second));
  }
  if (const std::string near = DidYouMean(key, known_); !near.empty()) {
    return fmt::format("unknown key ({})", near);
  }
  std::vector<std::string> shown = known_;
  shown.resize(std::min(shown.size(), kLongestKeyList));
  return fmt::format("unknown key (expected {})", QuotedChoices(shown));
}

void ObjectReader::Finish(std::span<const Hint> hints) {
  if (object_ == nullptr) {
    return;
  }
  for (const JsonMember& member : object_->children) {
    if (std::find(known_.begin(), known_.end(), member.key) == known_.end()) {
      ReportAt(member.key_offset, PathOf(member.key), context_.errors.full() ? "" : UnknownKey(member.key, hints));
    }
  }
}

}  // namespace supervisor
