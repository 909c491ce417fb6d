#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace supervisor {

// "SIGKILL" for 9, "SIGRTMIN+3" for real-time ones, "signal 99" for what is none.
std::string SignalName(int signal);

// Takes "SIGTERM", "TERM", "term", "15", "SIGRTMIN+3". Nothing for what is no signal of this kernel.
std::optional<int> ParseSignal(std::string_view text);

}  // namespace supervisor
