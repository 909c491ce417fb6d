#include "common/signal_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <csignal>
#include <cstring>

namespace supervisor {
namespace {

std::optional<int> ParseNumber(std::string_view text) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || rest != end) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

std::string SignalName(int signal) {
  if (signal >= SIGRTMIN && signal <= SIGRTMAX) {
    return signal == SIGRTMIN ? "SIGRTMIN" : fmt::format("SIGRTMIN+{}", signal - SIGRTMIN);
  }
  const char* abbreviation = sigabbrev_np(signal);
  return abbreviation != nullptr ? fmt::format("SIG{}", abbreviation) : fmt::format("signal {}", signal);
}

std::optional<int> ParseSignal(std::string_view text) {
  if (const std::optional<int> number = ParseNumber(text)) {
    return *number >= 1 && *number <= SIGRTMAX ? number : std::nullopt;
  }
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (name.starts_with("SIG")) {
    name.erase(0, 3);
  }
  if (name.starts_with("RTMIN")) {
    const std::string_view rest = std::string_view(name).substr(5);
    const std::optional<int> offset = rest.empty()          ? 0
                                      : rest.front() == '+' ? ParseNumber(rest.substr(1))
                                                            : std::nullopt;
    return offset && *offset >= 0 && SIGRTMIN + *offset <= SIGRTMAX ? std::optional<int>(SIGRTMIN + *offset)
                                                                    : std::nullopt;
  }
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    const char* abbreviation = sigabbrev_np(signal);
    if (abbreviation != nullptr && name == abbreviation) {
      return signal;
    }
  }
  return std::nullopt;
}

}  // namespace supervisor
