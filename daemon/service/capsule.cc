#include "daemon/service/capsule.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <string_view>

#include "daemon/logs/log_reader.h"

namespace supervisor {
namespace {

constexpr uint64_t kLines = 50;
constexpr size_t kMostBytes = 16 << 10;
constexpr size_t kMostRead = 256 << 10;
constexpr size_t kShortestSecret = 4;  // shorter ones would blank out half of every line

bool SoundsSecret(std::string name) {
  constexpr std::array<std::string_view, 9> kWords = {"PASS", "SECRET", "TOKEN", "KEY",   "CREDENTIAL",
                                                      "AUTH", "PWD",    "DSN",   "CANARY"};
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return std::ranges::any_of(kWords, [&](std::string_view word) { return name.find(word) != std::string::npos; });
}

}  // namespace

std::vector<std::string> SecretValues(const std::map<std::string, std::string>& environment) {
  std::vector<std::string> values;
  for (const auto& [name, value] : environment) {
    if (SoundsSecret(name) && value.size() >= kShortestSecret) {
      values.push_back(value);
    }
  }
  return values;
}

std::string LastLinesAsJson(const std::string& log_file, const std::vector<std::string>& secrets) {
  LogReader reader(log_file, LogChain::kSmallGap);
  if (!reader.SeekToLastLines(kLines).ok()) {
    return "";
  }
  std::string text;
  while (text.size() < kMostRead) {
    const absl::StatusOr<std::string> piece = reader.Read(kMostRead);
    if (!piece.ok() || piece->empty()) {
      break;
    }
    text += *piece;
  }
  for (const std::string& secret : secrets) {
    for (size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3)) {
      text.replace(at, secret.size(), "***");
    }
  }
  if (text.size() > kMostBytes) {
    text.erase(0, text.size() - kMostBytes);  // the end says more than the beginning
  }
  nlohmann::json lines = nlohmann::json::array();
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines.empty() ? "" : lines.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace supervisor
