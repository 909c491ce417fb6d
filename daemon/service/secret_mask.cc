#include "daemon/service/secret_mask.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace supervisor {
namespace {

constexpr std::string_view kAsterisks = "***";
constexpr size_t kShortest = 4;       // shorter ones would blank out half of every line
constexpr size_t kShortestLine = 8;   // of a secret of several lines, such as a private key
constexpr size_t kShortestRest = 6;   // of one that was cut: fewer characters may be anything
constexpr size_t kRandomLength = 20;  // so many letters of both cases and digits are no word
constexpr size_t kHexadecimalLength = 32;
constexpr std::string_view kCut = "...";  // how this program says that it has left something out

std::string Upper(std::string_view text) {
  std::string upper(text);
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return upper;
}

template <size_t kCount>
bool HasOneOf(std::string_view text, const std::array<std::string_view, kCount>& words) {
  return std::ranges::any_of(words, [text](std::string_view word) { return text.find(word) != std::string::npos; });
}

bool NameSoundsSecret(std::string_view name) {
  return HasOneOf(Upper(name), std::to_array<std::string_view>({"PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH",
                                                                "PWD", "DSN", "CANARY", "COOKIE", "PRIVATE"}));
}

bool LooksDrawnAtRandom(std::string_view value) {
  bool upper = false;
  bool lower = false;
  bool digit = false;
  bool hexadecimal = true;
  for (const unsigned char c : value) {
    if (std::isalnum(c) == 0 && c != '+' && c != '/' && c != '=' && c != '_' && c != '-') {
      return false;
    }
    upper = upper || std::isupper(c) != 0;
    lower = lower || std::islower(c) != 0;
    digit = digit || std::isdigit(c) != 0;
    hexadecimal = hexadecimal && std::isxdigit(c) != 0;
  }
  const bool is_path = value.starts_with('/') || value.find("//") != std::string_view::npos;
  return !is_path && digit &&
         ((upper && lower && value.size() >= kRandomLength) || (hexadecimal && value.size() >= kHexadecimalLength));
}

// Of "scheme://user:password@host".
std::string_view PasswordOf(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) {
    return "";
  }
  const std::string_view rest = url.substr(scheme + 3);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  const size_t at = authority.rfind('@');
  const size_t colon = authority.find(':');
  return at == std::string_view::npos || colon >= at ? "" : authority.substr(colon + 1, at - colon - 1);
}

void ReplaceAll(std::string& text, std::string_view what) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + kAsterisks.size())) {
    text.replace(at, what.size(), kAsterisks);
  }
}

// The end of `secret`, where `text` goes on with that at `at`.
void HideEnd(std::string& text, size_t at, std::string_view secret) {
  for (size_t size = secret.size() - 1; size >= kShortestRest; --size) {
    if (std::string_view(text).substr(at).starts_with(secret.substr(secret.size() - size))) {
      text.replace(at, size, kAsterisks);
      return;
    }
  }
}

// The beginning of `secret`, where that is what `text` holds before `end`.
void HideBeginning(std::string& text, size_t end, std::string_view secret) {
  for (size_t size = secret.size() - 1; size >= kShortestRest; --size) {
    if (std::string_view(text).substr(0, end).ends_with(secret.substr(0, size))) {
      text.replace(end - size, size, kAsterisks);
      return;
    }
  }
}

}  // namespace

void SecretMask::Learn(const Environment& environment) {
  for (const auto& [name, value] : environment) {
    if (NameSoundsSecret(name) || LooksDrawnAtRandom(value) ||
        HasOneOf(Upper(value), std::to_array<std::string_view>({"CANARY", "SECRET"}))) {
      Add(value);
    } else {
      Add(PasswordOf(value));
    }
  }
}

void SecretMask::LearnFile(const std::string& environment_file) {
  if (environment_file.empty()) {
    return;
  }
  if (const absl::StatusOr<Environment> environment = ReadEnvironmentFile(environment_file, {}, FileTrust::kAny);
      environment.ok()) {  // of whomever it is: nothing is run by it
    Learn(*environment);
  }
}

void SecretMask::Add(std::string_view secret) {
  if (secret.size() >= kShortest) {
    secrets_.emplace(secret);
  }
  if (secret.find('\n') == std::string_view::npos) {
    return;
  }
  for (size_t begin = 0; begin < secret.size();) {
    const size_t end = std::min(secret.find('\n', begin), secret.size());
    if (end - begin >= kShortestLine) {
      secrets_.emplace(secret.substr(begin, end - begin));
    }
    begin = end + 1;
  }
}

std::string SecretMask::Hide(std::string text) const {
  for (const std::string& secret : secrets_) {
    ReplaceAll(text, secret);
  }
  for (const std::string& secret : secrets_) {
    if (secret.size() <= kShortestRest) {
      break;  // the others are no longer
    }
    HideEnd(text, 0, secret);
    HideBeginning(text, text.size(), secret);
    for (size_t at = text.find(kCut); at != std::string::npos; at = text.find(kCut, at + kCut.size())) {
      HideEnd(text, at + kCut.size(), secret);
      const size_t before = text.size();
      HideBeginning(text, at, secret);
      at -= before - text.size();
    }
  }
  return text;
}

}  // namespace supervisor
