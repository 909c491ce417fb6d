#include "daemon/config/interpolate.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr std::string_view kOpen = "${";
constexpr std::string_view kEscapedOpen = "$${";
constexpr std::string_view kInstanceName = "INSTANCE";
constexpr size_t kLongestText =
    1 << 20;  // execve(2) takes 128 KiB a string; this only bounds what variables can grow to

// What a string is made of: text, or the place of an instance number.
struct Piece {
  bool is_instance = false;
  std::string literal;
};

class Interpolator {
 public:
  Interpolator(std::string_view text, const EnvironmentLookup& environment, InstanceRule rule)
      : text_(text), environment_(environment), rule_(rule) {}

  Interpolated Run();

 private:
  void AddLiteral(std::string_view text);
  void AddProblem(std::string message) { problems_.push_back({at_, std::move(message)}); }
  void ReadVariable();
  void Replace(std::string_view name, std::optional<std::string_view> fallback);
  std::string Join() const;

  const std::string_view text_;
  const EnvironmentLookup& environment_;
  const InstanceRule rule_;
  size_t at_ = 0;
  size_t length_ = 0;
  std::vector<Piece> pieces_;
  std::vector<InterpolationProblem> problems_;
};

bool IsVariableName(std::string_view name) {
  const auto is_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && !is_digit(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_word(c) || is_digit(c); });
}

// Joined pieces of text are escaped as one: "$" from a variable and "{" after it must not become "${".
void Interpolator::AddLiteral(std::string_view text) {
  if (pieces_.empty() || pieces_.back().is_instance) {
    pieces_.emplace_back();
  }
  pieces_.back().literal += text;
  length_ += text.size();
}

void Interpolator::Replace(std::string_view name, std::optional<std::string_view> fallback) {
  if (name == kInstanceName) {
    if (rule_ == InstanceRule::kKeep) {
      pieces_.push_back({.is_instance = true, .literal = ""});
    } else {
      AddProblem("${INSTANCE} has a value only in a service (expected another variable)");
    }
    return;
  }
  const std::optional<std::string> value = environment_(std::string(name));
  if (fallback && value.value_or("").empty()) {
    AddLiteral(*fallback);
  } else if (!value) {
    AddProblem(fmt::format(
        "${{{0}}} is not set in the daemon's environment (set it, or give a default: ${{{0}:-text}})", name));
  } else if (!IsValidUtf8(*value)) {
    AddProblem(fmt::format("the value of ${{{}}} in the daemon's environment is not UTF-8", name));
  } else {
    AddLiteral(*value);
  }
}

void Interpolator::ReadVariable() {
  const size_t close = text_.find('}', at_);
  if (close == std::string_view::npos) {
    AddProblem("\"${\" without a closing \"}\" (expected ${NAME}; a literal ${ is written $${)");
    at_ = text_.size();
    return;
  }
  const std::string_view inside = text_.substr(at_ + kOpen.size(), close - at_ - kOpen.size());
  const size_t separator = inside.find(":-");
  const std::string_view name = inside.substr(0, separator);
  std::optional<std::string_view> fallback;
  if (separator != std::string_view::npos) {
    fallback = inside.substr(separator + 2);
  }
  if (!IsVariableName(name)) {
    AddProblem(
        fmt::format("{} is no variable (expected ${{NAME}} or ${{NAME:-default}}, NAME of letters, digits and _; "
                    "a literal ${{ is written $${{)",
                    Quote(text_.substr(at_, close + 1 - at_))));
  } else if (fallback && fallback->find(kOpen) != std::string_view::npos) {
    AddProblem(
        fmt::format("the default of ${{{}}} holds another \"${{\" (expected plain text up to the \"}}\")", name));
  } else {
    Replace(name, fallback);
  }
  at_ = close + 1;
}

std::string Interpolator::Join() const {
  std::string out;
  for (const Piece& piece : pieces_) {
    if (!piece.is_instance) {
      out += rule_ == InstanceRule::kKeep ? KeepLiteral(piece.literal) : piece.literal;
      continue;
    }
    const size_t last_other = out.find_last_not_of('$');
    const size_t kept = last_other == std::string::npos ? 0 : last_other + 1;
    const std::string dollars = out.substr(kept);
    out.resize(kept);
    out += fmt::format("${{{}{}}}", dollars, kInstanceName);
  }
  return out;
}

Interpolated Interpolator::Run() {
  while (at_ < text_.size()) {
    if (length_ > kLongestText) {
      AddProblem("is too long (at most 1 MiB, variables replaced)");
      break;
    }
    const std::string_view rest = text_.substr(at_);
    if (rest.starts_with(kEscapedOpen)) {
      AddLiteral(kOpen);
      at_ += kEscapedOpen.size();
    } else if (rest.starts_with(kOpen)) {
      ReadVariable();
    } else {
      const size_t next = std::min(rest.find('$', 1), rest.size());
      AddLiteral(rest.substr(0, next));
      at_ += next;
    }
  }
  return {.text = Join(), .problems = std::move(problems_)};
}

}  // namespace

Interpolated Interpolate(std::string_view text, const EnvironmentLookup& environment, InstanceRule rule) {
  return Interpolator(text, environment, rule).Run();
}

std::string KeepLiteral(std::string_view text) {
  std::string out;
  for (size_t open = text.find(kOpen); open != std::string_view::npos; open = text.find(kOpen)) {
    out += text.substr(0, open);
    out += kEscapedOpen;
    text.remove_prefix(open + kOpen.size());
  }
  return out += text;
}

std::string ReplaceInstance(std::string_view instance_form, int instance) {
  std::string out;
  std::string_view rest = instance_form;
  while (!rest.empty()) {
    if (rest.starts_with(kEscapedOpen)) {
      out += kOpen;
      rest.remove_prefix(kEscapedOpen.size());
      continue;
    }
    if (rest.starts_with(kOpen)) {
      const size_t name = std::min(rest.find_first_not_of('$', kOpen.size()), rest.size());
      const std::string_view dollars = rest.substr(kOpen.size(), name - kOpen.size());
      if (rest.substr(name).starts_with("INSTANCE}")) {
        out += fmt::format("{}{}", dollars, instance);
        rest.remove_prefix(name + kInstanceName.size() + 1);
        continue;
      }
    }
    out += rest.front();
    rest.remove_prefix(1);
  }
  return out;
}

}  // namespace supervisor
