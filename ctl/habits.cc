#include "ctl/habits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "common/signal_names.h"

namespace supervisor {
namespace {

// The argument behind one of these is its value, whatever it looks like.
bool TakesValue(std::string_view option) {
  constexpr std::array<std::string_view, 9> kOptions = {"--socket", "--reason", "--timeout", "-n",    "--lines",
                                                        "--since",  "--until",  "--grep",    "--type"};
  return std::ranges::find(kOptions, option) != kOptions.end();
}

// "-5": a count.
bool IsDashedNumber(std::string_view argument) {
  return argument.size() > 1 && argument.front() == '-' &&
         argument.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

// "-9", "-HUP", "-SIGTERM".
bool IsDashedSignal(const std::string& argument) {
  return argument.size() > 1 && argument.front() == '-' && argument[1] != '-' && ParseSignal(argument.substr(1));
}

}  // namespace

std::vector<std::string> TranslateHabits(const CommandSpec& spec, const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  bool is_value = false;
  bool signal_taken = false;
  for (const std::string& argument : arguments) {
    if (!is_value && (spec.options & kOptCount) != 0 && IsDashedNumber(argument)) {
      out.insert(out.end(), {"-n", argument.substr(1)});
      continue;
    }
    if (!is_value && spec.targets == Targets::kSignalThenSome && !signal_taken) {
      if (argument == "-s" || argument == "--signal") {
        continue;  // the signal stands where it belongs without it
      }
      signal_taken = !TakesValue(argument) && (argument.front() != '-' || IsDashedSignal(argument));
      if (signal_taken && argument.front() == '-') {
        out.push_back(argument.substr(1));
        continue;
      }
    }
    is_value = !is_value && TakesValue(argument);
    out.push_back(argument);
  }
  return out;
}

std::optional<std::string> HintForOption(const std::string& argument) {
  const std::string option = argument.substr(0, argument.find('='));
  if (option == "-c" || option == "--configuration" || option == "--config") {
    return fmt::format(
        "unknown option \"{}\": supervisorctl reads no configuration file; it talks to the daemon at --socket PATH "
        "(the "
        "\"socket\" under \"global\" in that file)",
        option);
  }
  if (option == "-s" || option == "--serverurl") {
    return fmt::format("unknown option \"{}\": the daemon is found at --socket PATH", option);
  }
  if (option == "-u" || option == "--username" || option == "-p" || option == "--password") {
    return fmt::format("unknown option \"{}\": no password is needed, since the kernel tells the daemon who calls",
                       option);
  }
  if (option == "-i" || option == "--interactive") {
    return fmt::format("unknown option \"{}\": there is no shell of its own; supervisorctl top is the live screen",
                       option);
  }
  return std::nullopt;
}

std::optional<std::string> HintForTarget(const std::string& target) {
  if (target.starts_with('-')) {
    return fmt::format("unknown option \"{}\"", target);
  }
  // Within a glob's brackets a comma is one of the characters that match.
  if (target.find(',') == std::string::npos || target.find('[') != std::string::npos) {
    return std::nullopt;
  }
  std::string separate = target;
  std::ranges::replace(separate, ',', ' ');
  return fmt::format("TARGET \"{}\" has a comma: separate targets by blanks: {}", target, separate);
}

}  // namespace supervisor
