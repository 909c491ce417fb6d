#include "daemon/service/environment_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

bool IsVariableName(std::string_view name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
         std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

std::string_view WithoutBlanksAround(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && IsBlank(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

std::string WithPlainLineEnds(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r' || i + 1 == text.size() || text[i + 1] != '\n') {
      out += text[i];
    }
  }
  return out;
}

// Reads the text from its start to its end, once.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  absl::StatusOr<Environment> Read();

 private:
  bool AtEnd() const { return at_ == text_.size(); }
  bool AtLineEnd() const { return AtEnd() || text_[at_] == '\n'; }
  char Next();
  void SkipBlanks();
  void SkipLine();
  absl::Status Error(int line, std::string_view what) const {
    return absl::InvalidArgumentError(fmt::format("line {}: {}", line, what));
  }
  absl::StatusOr<std::string> ReadName();
  absl::StatusOr<std::string> ReadValue();
  std::string ReadUnquoted();
  std::string ReadWord();
  absl::Status ReadQuoted(std::string& value);
  bool TakeEscaped(std::string& value);

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  int value_line_ = 1;  // where the value begins that is being read
};

char Reader::Next() {
  const char c = text_[at_++];
  line_ += c == '\n' ? 1 : 0;
  return c;
}

void Reader::SkipBlanks() {
  while (!AtEnd() && IsBlank(text_[at_])) {
    Next();
  }
}

void Reader::SkipLine() {
  while (!AtLineEnd()) {
    Next();
  }
}

absl::StatusOr<std::string> Reader::ReadName() {
  const size_t end = std::min(text_.find('\n', at_), text_.size());
  std::string_view before = text_.substr(at_, end - at_);
  const size_t equals = before.find('=');
  if (equals == std::string_view::npos) {
    return Error(line_, "not of the form NAME=value");
  }
  before = WithoutBlanksAround(before.substr(0, equals));
  at_ += equals + 1;
  constexpr std::string_view kExport = "export";
  if (before.size() > kExport.size() && before.starts_with(kExport) && IsBlank(before[kExport.size()])) {
    before = WithoutBlanksAround(before.substr(kExport.size()));
  }
  if (before.empty()) {
    return Error(line_, "not of the form NAME=value: the name is missing");
  }
  if (!IsVariableName(before)) {
    return Error(line_, fmt::format("{} can't be the name of a variable (expected letters, digits and _, a digit not "
                                    "first)",
                                    Quote(before)));
  }
  return std::string(before);
}

// Behind a backslash that is not within quotes. Returns whether it stood for a character.
bool Reader::TakeEscaped(std::string& value) {
  if (AtEnd()) {
    return false;  // as sh: a backslash at the very end is itself
  }
  const char c = Next();
  if (c == '\n') {
    return false;
  }
  value += c;
  return true;
}

// Blanks within stay; those at the end go, unless a backslash stands before them.
std::string Reader::ReadUnquoted() {
  std::string value;
  size_t kept = 0;  // of `value`: what is no blank at its end
  bool after_blank = false;
  while (!AtLineEnd()) {
    const char c = text_[at_];
    if (c == '#' && after_blank) {
      break;
    }
    Next();
    after_blank = IsBlank(c);
    if (c != '\\' || AtEnd()) {
      value += c;
    } else if (!TakeEscaped(value)) {
      continue;
    }
    kept = after_blank ? kept : value.size();
  }
  value.resize(kept);
  return value;
}

// What touches a quoted part: up to a blank, or the next quote.
std::string Reader::ReadWord() {
  std::string word;
  while (!AtLineEnd() && !IsBlank(text_[at_]) && text_[at_] != '"' && text_[at_] != '\'') {
    const char c = Next();
    if (c != '\\' || AtEnd()) {
      word += c;
    } else {
      TakeEscaped(word);
    }
  }
  return word;
}

absl::Status Reader::ReadQuoted(std::string& value) {
  constexpr std::string_view kEscapable = "\"\\$`";
  const int line = line_;
  const char quote = Next();
  while (!AtEnd()) {
    const char c = Next();
    if (c == quote) {
      return absl::OkStatus();
    }
    const bool escapes = quote == '"' && c == '\\' && !AtEnd();
    if (escapes && text_[at_] == '\n') {
      Next();
    } else if (escapes && kEscapable.find(text_[at_]) != std::string_view::npos) {
      value += Next();
    } else {
      value += c;
    }
  }
  return Error(line, line == value_line_
                         ? std::string("the closing quote is missing")
                         : fmt::format("the closing quote is missing (the value begins in line {})", value_line_));
}

absl::StatusOr<std::string> Reader::ReadValue() {
  value_line_ = line_;
  if (!AtLineEnd() && IsBlank(text_[at_])) {
    SkipBlanks();
    if (!AtEnd() && text_[at_] == '#') {
      return std::string();
    }
  }
  if (AtLineEnd()) {
    return std::string();
  }
  if (text_[at_] != '"' && text_[at_] != '\'') {
    return ReadUnquoted();
  }
  std::string value;
  while (!AtLineEnd() && !IsBlank(text_[at_])) {
    if (text_[at_] == '"' || text_[at_] == '\'') {
      if (absl::Status status = ReadQuoted(value); !status.ok()) {
        return status;
      }
    } else {
      value += ReadWord();
    }
  }
  SkipBlanks();
  if (!AtLineEnd() && text_[at_] != '#') {
    return Error(line_, "text after the closing quote (quote all of the value)");
  }
  return value;
}

absl::StatusOr<Environment> Reader::Read() {
  Environment environment;
  while (!AtEnd()) {
    SkipBlanks();
    if (!AtLineEnd() && text_[at_] != '#' && text_[at_] != ';') {
      const absl::StatusOr<std::string> name = ReadName();
      if (!name.ok()) {
        return name.status();
      }
      const absl::StatusOr<std::string> value = ReadValue();
      if (!value.ok()) {
        return value.status();
      }
      SetVariable(environment, *name, *value);
    }
    SkipLine();
    if (!AtEnd()) {
      Next();
    }
  }
  return environment;
}

}  // namespace

void SetVariable(Environment& environment, const std::string& name, const std::string& value) {
  for (auto& [known, old] : environment) {
    if (known == name) {
      old = value;
      return;
    }
  }
  environment.emplace_back(name, value);
}

absl::StatusOr<Environment> ParseEnvironmentFile(std::string_view text) {
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    // execve(2) would cut the value there. Text in UTF-16 has one in every other byte.
    return absl::InvalidArgumentError(fmt::format("line {}: holds a NUL byte (expected text in UTF-8 or ASCII)",
                                                  1 + std::ranges::count(text.substr(0, nul), '\n')));
  }
  return Reader(WithPlainLineEnds(text)).Read();
}

}  // namespace supervisor
