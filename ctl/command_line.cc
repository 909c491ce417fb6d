#include "ctl/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "common/near_miss.h"
#include "common/paths.h"
#include "common/signal_names.h"
#include "common/version.h"
#include "ctl/command_table.h"
#include "ctl/event_types.h"
#include "ctl/habits.h"
#include "ctl/render/time_spec.h"
#include "ctl/render/utf8.h"

// The only file that includes CLI11: it is made of templates and slow to compile. The command's name is found first,
// and only that command's options are set up: it keeps start-up short, and lets global options stand anywhere.

namespace supervisor {
namespace {

// CLI11 takes "[a-c]" for a list and strips the brackets, but it is a glob. A byte that no UTF-8 text contains makes
// such an argument end differently on its way through.
constexpr char kBracketGuard = '\xFF';

// The command line as text, before it is checked.
struct Given {
  std::vector<std::string> targets;
  std::string socket;
  std::string reason;
  std::string grep;
  std::string timeout;
  std::string count;
  std::string since;
  std::string until;
  std::vector<std::string> types;
  Invocation flags;
};

std::string Quoted(std::string_view text) { return fmt::format("\"{}\"", text); }

std::string DidYouMean(std::string_view given, const std::vector<std::string>& candidates) {
  std::string out;
  for (const std::string& candidate : NearMisses(given, candidates)) {
    out += out.empty() ? " (did you mean " : " or ";
    out += Quoted(candidate);
  }
  return out.empty() ? out : out + "?)";
}

EarlyExit UsageError(const CommandSpec* spec, std::string_view problem) {
  const std::string command = spec == nullptr ? "" : fmt::format("{} ", spec->name);
  return {.exit_code = ExitCode::kUsage,
          .text = fmt::format("{}{}\nSee: supervisorctl {}--help",
                              spec == nullptr ? "" : fmt::format("{}: ", spec->name), problem, command),
          .to_stderr = true};
}

std::string TopHelp() {
  std::string out =
      "supervisorctl: see and control the services of supervisord\n"
      "Usage: supervisorctl [--socket PATH] [--json] [--no-color] COMMAND [ARGUMENTS]\n\nCommands:\n";
  for (const CommandSpec& spec : AllCommands()) {
    out += fmt::format("  {:<10} {}\n", spec.name, spec.summary);
  }
  out +=
      "\nA TARGET is a service id (web), an instance (worker:0), a glob ('web*'), a group (@backend) or all.\n"
      "\nOptions, before or after the command:\n"
      "  --socket PATH   the daemon's socket (default: $SUPERVISOR_SOCKET, else the usual place)\n"
      "  --json          one JSON object; streams print one a line\n"
      "  --no-color      no colour; the same as a NO_COLOR in the environment\n"
      "  -h, --help      this help, or that of the command\n"
      "  --version       the version of this program\n"
      "\nExit codes: 0 done; 1 failed; 2 usage or configuration error; 3 something is not running or not healthy;\n"
      "4 no such service; 5 the daemon cannot be reached; 6 not permitted; 7 timed out.\n"
      "\nExamples:\n  supervisorctl status\n  supervisorctl restart web\n  supervisorctl logs web -f\n"
      "More: supervisorctl COMMAND --help\n";
  return out;
}

void DefineGlobalOptions(CLI::App& app, Given& given) {
  app.set_help_flag("-h,--help", "this help");
  app.set_version_flag("--version", fmt::format("supervisorctl {}", kVersion), "the version of this program");
  app.add_option("--socket", given.socket, "the daemon's socket (default: $SUPERVISOR_SOCKET, else the usual place)")
      ->option_text("PATH")
      ->take_last()
      ->group("Global options");
  app.add_flag("--json", given.flags.json, "print JSON")->group("Global options");
  app.add_flag("--no-color", given.flags.no_color, "no colour")->group("Global options");
}

void DefineText(CLI::App& app, const CommandSpec& spec, OptionBit bit, const std::string& name, std::string& value,
                std::string_view text, std::string_view help) {
  if ((spec.options & bit) != 0) {
    app.add_option(name, value, std::string(help))->option_text(std::string(text))->take_last();
  }
}

void DefineFlag(CLI::App& app, const CommandSpec& spec, OptionBit bit, const std::string& name, bool& value,
                std::string_view help) {
  if ((spec.options & bit) != 0) {
    app.add_flag(name, value, std::string(help));
  }
}

void DefineCommandOptions(CLI::App& app, const CommandSpec& spec, Given& given) {
  constexpr std::string_view kTimeHelp =
      "a time (2026-11-23 07:28:15, 14:00, yesterday; UTC) or how long ago (90s, 10m, 2h, 1d)";
  DefineFlag(app, spec, kOptNoWait, "--no-wait", given.flags.no_wait, "do not wait for the outcome");
  DefineText(app, spec, kOptTimeout, "--timeout", given.timeout, "S",
             "seconds to wait for the outcome (default: as long as the services' own timeouts allow)");
  DefineText(app, spec, kOptReason, "--reason", given.reason, "TEXT", "why; it is kept with the event");
  DefineFlag(app, spec, kOptFollow, "-f,--follow", given.flags.follow, "go on with what comes");
  DefineText(app, spec, kOptCount, "-n,--lines", given.count, "N", spec.count_help);
  DefineText(app, spec, kOptSince, "--since", given.since, "T", fmt::format("from then on: {}", kTimeHelp));
  DefineText(app, spec, kOptUntil, "--until", given.until, "T", "up to then");
  DefineText(app, spec, kOptGrep, "--grep", given.grep, "RE", "only lines that match (RE2 syntax)");
  if ((spec.options & kOptType) != 0) {
    app.add_option("--type", given.types, "only events of this type (started, failed, ...); may be repeated")
        ->option_text("NAME")
        ->allow_extra_args(false)
        ->take_all();
  }
  DefineFlag(app, spec, kOptStderr, "--stderr", given.flags.stderr_log, "the separate log of stderr");
  DefineFlag(app, spec, kOptRaw, "--raw", given.flags.raw,
             "on a terminal too, the exact bytes: it obeys what services wrote, colours and worse");
  DefineFlag(app, spec, kOptDryRun, "--dry-run", given.flags.dry_run, "say what would happen, change nothing");
  DefineFlag(app, spec, kOptAll, "-a,--all", given.flags.all, "resolved ones too");
  DefineFlag(app, spec, kOptTest, "--test", given.flags.test, "send a test notification through each channel");
  DefineFlag(app, spec, kOptWithDependents, "--with-dependents", given.flags.with_dependents,
             "restart what runs and depends on them, too: it stops first and starts last");
  if (spec.targets == Targets::kSignalThenSome) {
    app.add_option("SIGNAL", given.flags.signal, "HUP, SIGHUP or 1")->option_text(" ");
  }
  if (spec.targets != Targets::kNone) {
    app.add_option("TARGET", given.targets,
                   "a service id (web), an instance (worker:0), a glob ('web*'), a group (@backend) or all")
        ->option_text(" ");
  }
}

std::string_view ArgumentsWord(Targets targets) {
  switch (targets) {
    case Targets::kNone:
      return "";
    case Targets::kAny:
      return " [TARGET...]";
    case Targets::kSome:
      return " TARGET...";
    case Targets::kOne:
      return " TARGET";
    case Targets::kSignalThenSome:
      return " SIGNAL TARGET...";
  }
  return "";
}

// What CLI11 calls required it also checks, before it looks for unknown options; so only the usage line knows.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(const CommandSpec& spec) : spec_(spec) {
    label("Positionals", "Arguments");
    column_width(24);
  }
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return fmt::format("Usage: supervisorctl {} [OPTIONS]{}\n", spec_.name, ArgumentsWord(spec_.targets));
  }

 private:
  const CommandSpec& spec_;
};

std::string CommandHelp(CLI::App& app, const CommandSpec& spec) {
  app.description(std::string(spec.description));
  app.formatter(std::make_shared<HelpFormatter>(spec));
  app.footer(fmt::format("Examples:\n{}", spec.examples));
  std::string help = app.help();
  for (size_t gap = help.find("\n\n\n"); gap != std::string::npos; gap = help.find("\n\n\n")) {
    help.erase(gap, 1);
  }
  help.erase(help.find_last_not_of('\n') + 2);
  return help;
}

std::optional<double> ParseSeconds(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  constexpr double kLongest = 366 * 86400.0;
  return error == std::errc() && rest == end && std::isfinite(value) && value >= 0 && value <= kLongest
             ? std::optional<double>(value)
             : std::nullopt;
}

std::optional<uint64_t> ParseCount(const std::string& text) {
  constexpr auto kAll = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (text == "all") {
    return kAll;
  }
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end ? std::optional<uint64_t>(std::min(value, kAll)) : std::nullopt;
}

// The first problem with the values, in words; nothing when all is well, and then they are in `invocation`.
std::optional<std::string> ConvertNumbers(const Given& given, absl::Time now, Invocation& invocation) {
  if (!given.timeout.empty()) {
    invocation.timeout_seconds = ParseSeconds(given.timeout);
    if (!invocation.timeout_seconds) {
      return fmt::format("--timeout {}: not a number of seconds (such as 30 or 0.5)", Quoted(given.timeout));
    }
  }
  if (!given.count.empty()) {
    invocation.count = ParseCount(given.count);
    if (!invocation.count) {
      return fmt::format("-n {}: not a number (0 or more, or \"all\")", Quoted(given.count));
    }
  }
  const auto convert_time = [now](std::string_view option, const std::string& text,
                                  int64_t& unix_ms) -> std::optional<std::string> {
    if (text.empty()) {
      return std::nullopt;
    }
    const std::optional<int64_t> parsed = ParseTimeSpec(text, now);
    if (!parsed) {
      return fmt::format(
          "{} {}: not a time (such as \"2026-11-23 07:28:15\", 14:00 or yesterday, in UTC, or how long ago: 90s, 10m, "
          "2h, "
          "1d)",
          option, Quoted(text));
    }
    unix_ms = *parsed;
    return std::nullopt;
  };
  if (auto problem = convert_time("--since", given.since, invocation.since_unix_ms)) {
    return problem;
  }
  return convert_time("--until", given.until, invocation.until_unix_ms);
}

std::optional<std::string> CheckTargets(const CommandSpec& spec, const Invocation& invocation) {
  for (const std::string& target : invocation.targets) {
    if (target.empty()) {
      return "a TARGET is empty";
    }
    if (!IsValidUtf8(target)) {
      return fmt::format("TARGET {} is not valid UTF-8", Quoted(EscapeForTerminal(target)));
    }
    if (std::optional<std::string> hint = HintForTarget(target)) {
      return hint;
    }
  }
  switch (spec.targets) {
    case Targets::kNone:
    case Targets::kAny:
      return std::nullopt;
    case Targets::kSignalThenSome:
      if (invocation.signal.empty()) {
        return "SIGNAL and TARGET are missing";
      }
      if (!ParseSignal(invocation.signal)) {
        return fmt::format("{} is no signal (such as HUP, SIGHUP or 1)", Quoted(EscapeForTerminal(invocation.signal)));
      }
      [[fallthrough]];
    case Targets::kSome:
      return invocation.targets.empty()
                 ? std::optional<std::string>("TARGET is missing: a service id, an instance, a glob, @group or all")
                 : std::nullopt;
    case Targets::kOne:
      return invocation.targets.size() == 1 ? std::nullopt
                                            : std::optional<std::string>(fmt::format("takes exactly one TARGET, not {}",
                                                                                     invocation.targets.size()));
  }
  return std::nullopt;
}

std::optional<std::string> CheckTexts(const Invocation& invocation) {
  if (!IsValidUtf8(invocation.reason)) {
    return "--reason is not valid UTF-8";
  }
  if (!IsValidUtf8(invocation.grep)) {
    return "--grep is not valid UTF-8";
  }
  if (invocation.test && (invocation.all || invocation.count)) {
    return "--test shows no alerts: it does not go with --all or -n";
  }
  if (invocation.follow && invocation.until_unix_ms != 0) {
    return "--follow has no end: it does not go with --until";
  }
  if (invocation.since_unix_ms != 0 && invocation.until_unix_ms != 0 &&
      invocation.since_unix_ms > invocation.until_unix_ms) {
    return "--since is later than --until";
  }
  return std::nullopt;
}

// "--type started,failed" means the same as two options.
std::optional<std::string> ConvertTypes(const std::vector<std::string>& given, std::vector<std::string>& types) {
  for (const std::string& list : given) {
    for (size_t begin = 0; begin <= list.size();) {
      const size_t end = std::min(list.find(',', begin), list.size());
      const std::string name = list.substr(begin, end - begin);
      const std::vector<std::string> known = EventTypeNames();
      if (std::ranges::find(known, name) == known.end()) {
        return fmt::format("--type {}: no such type of event{}; there are {}", Quoted(EscapeForTerminal(name)),
                           DidYouMean(name, known), fmt::join(known, ", "));
      }
      types.push_back(name);
      begin = end + 1;
    }
  }
  return std::nullopt;
}

void ResolveSocket(const std::string& given, Invocation& invocation) {
  const char* variable = std::getenv("SUPERVISOR_SOCKET");  // NOLINT(concurrency-mt-unsafe): before any thread
  if (!given.empty()) {
    invocation.socket = given;
  } else if (variable != nullptr && variable[0] != '\0') {
    invocation.socket = variable;
  } else {
    invocation.socket = GetDefaultPaths().socket;
    invocation.socket_is_default = true;
  }
}

std::variant<Invocation, EarlyExit> Convert(const CommandSpec& spec, Given given, absl::Time now) {
  Invocation invocation = std::move(given.flags);
  invocation.command = spec.command;
  invocation.targets = std::move(given.targets);
  invocation.reason = std::move(given.reason);
  invocation.grep = std::move(given.grep);
  for (const auto& problem : {ConvertNumbers(given, now, invocation), ConvertTypes(given.types, invocation.types),
                              CheckTargets(spec, invocation), CheckTexts(invocation)}) {
    if (problem) {
      return UsageError(&spec, *problem);
    }
  }
  ResolveSocket(given.socket, invocation);
  return invocation;
}

// What CLI11 has to say, in our words where its own are about itself.
std::string Explain(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& extras) {
  if (extras.empty()) {
    const std::string text = error.what();
    return error.get_name() == "ArgumentMismatch" ? fmt::format("{} needs a value", text.substr(0, text.find(':')))
                                                  : text;
  }
  const std::string& extra = extras.front();
  if (!extra.starts_with('-')) {
    return fmt::format("unexpected argument {}", Quoted(EscapeForTerminal(extra)));
  }
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return fmt::format("unknown option {}{}", Quoted(EscapeForTerminal(extra)), DidYouMean(extra, names));
}

// An option whose value is empty: more often a variable that is not set than what is meant.
std::optional<std::string> FindEmptyValue(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    if (option->nonpositional() && option->get_items_expected_max() > 0 && option->count() > 0 &&
        option->results().back().empty() && name != "--reason" && name != "--grep") {
      return fmt::format("{} needs a value, not an empty one", name);
    }
  }
  return std::nullopt;
}

void RemoveGuard(std::string& text) {
  if (text.starts_with('[') && text.ends_with(kBracketGuard)) {
    text.pop_back();
  }
}

// Where the command's name stands: the first argument that is neither an option nor an option's value.
std::vector<std::string>::const_iterator FindCommandName(const std::vector<std::string>& arguments) {
  for (auto it = arguments.begin(); it != arguments.end(); ++it) {
    if (*it == "--socket") {
      if (std::next(it) == arguments.end()) {
        break;
      }
      ++it;
    } else if (!it->starts_with('-')) {
      return it;
    }
  }
  return arguments.end();
}

EarlyExit UnknownCommand(std::string_view name) {
  return UsageError(
      nullptr, fmt::format("unknown command {}{}", Quoted(EscapeForTerminal(name)), DidYouMean(name, CommandNames())));
}

std::variant<Invocation, EarlyExit> ParseWithoutCommand(std::vector<std::string> arguments) {
  CLI::App app;
  Given given;
  DefineGlobalOptions(app, given);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return EarlyExit{.text = TopHelp()};
  } catch (const CLI::CallForVersion& version) {
    return EarlyExit{.text = fmt::format("{}\n", version.what())};
  } catch (const CLI::ParseError& error) {
    return UsageError(nullptr, Explain(app, error, app.remaining()));
  }
  return UsageError(nullptr, FindEmptyValue(app).value_or("a command is missing"));
}

std::variant<Invocation, EarlyExit> ParseWithCommand(const CommandSpec& spec, std::vector<std::string> arguments,
                                                     bool help_only, absl::Time now) {
  CLI::App app;
  Given given;
  DefineGlobalOptions(app, given);
  DefineCommandOptions(app, spec, given);
  if (help_only) {
    return EarlyExit{.text = CommandHelp(app, spec)};
  }
  arguments = TranslateHabits(spec, arguments);
  for (std::string& argument : arguments) {
    if (argument.starts_with('[') && !IsValidUtf8(argument)) {
      return UsageError(&spec, fmt::format("{} is not valid UTF-8", Quoted(EscapeForTerminal(argument))));
    }
    if (argument.starts_with('[') && argument.ends_with(']')) {
      argument += kBracketGuard;
    }
  }
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return EarlyExit{.text = CommandHelp(app, spec)};
  } catch (const CLI::CallForVersion& version) {
    return EarlyExit{.text = fmt::format("{}\n", version.what())};
  } catch (const CLI::ParseError& error) {
    return UsageError(&spec, Explain(app, error, app.remaining()));
  }
  if (const auto problem = FindEmptyValue(app)) {
    return UsageError(&spec, *problem);
  }
  std::for_each(given.targets.begin(), given.targets.end(), RemoveGuard);
  RemoveGuard(given.reason);
  RemoveGuard(given.grep);
  return Convert(spec, std::move(given), now);
}

// `check` hands its arguments on as they are: supervisord, which makes the check, reads them (commands/check.cc).
std::variant<Invocation, EarlyExit> ParseCheck(std::vector<std::string> before, std::vector<std::string> after) {
  CLI::App app;
  Given given;
  DefineGlobalOptions(app, given);
  std::reverse(before.begin(), before.end());
  try {
    app.parse(std::move(before));
  } catch (const CLI::CallForHelp&) {
    after = {"--help"};
  } catch (const CLI::CallForVersion& version) {
    return EarlyExit{.text = fmt::format("{}\n", version.what())};
  } catch (const CLI::ParseError& error) {
    return UsageError(nullptr, Explain(app, error, app.remaining()));
  }
  Invocation invocation = std::move(given.flags);
  invocation.command = Command::kCheck;
  invocation.arguments = std::move(after);
  return invocation;
}

}  // namespace

std::vector<std::string> CommandNames() {
  std::vector<std::string> names;
  for (const CommandSpec& spec : AllCommands()) {
    names.emplace_back(spec.name);
  }
  return names;
}

namespace {

std::variant<Invocation, EarlyExit> Parse(const std::vector<std::string>& arguments, absl::Time now) {
  const auto name = FindCommandName(arguments);
  for (auto option = arguments.begin(); option != name; ++option) {
    if (const std::optional<std::string> hint = HintForOption(*option)) {
      return UsageError(nullptr, *hint);
    }
  }
  if (name == arguments.end()) {
    return ParseWithoutCommand(arguments);
  }
  std::vector<std::string> others(arguments.begin(), name);
  others.insert(others.end(), std::next(name), arguments.end());
  if (*name == "help") {
    const auto topic = FindCommandName(others);
    if (topic == others.end()) {
      return EarlyExit{.text = TopHelp()};
    }
    const CommandSpec* spec = FindCommand(*topic);
    if (spec != nullptr && spec->command == Command::kCheck) {
      return ParseCheck({}, {"--help"});
    }
    return spec == nullptr ? UnknownCommand(*topic) : ParseWithCommand(*spec, {}, true, now);
  }
  const CommandSpec* spec = FindCommand(*name);
  if (spec != nullptr && spec->command == Command::kCheck) {
    return ParseCheck({arguments.begin(), name}, {std::next(name), arguments.end()});
  }
  return spec == nullptr ? UnknownCommand(*name) : ParseWithCommand(*spec, std::move(others), false, now);
}

}  // namespace

std::variant<Invocation, EarlyExit> ParseCommandLine(const std::vector<std::string>& arguments, absl::Time now) {
  std::variant<Invocation, EarlyExit> parsed = Parse(arguments, now);
  if (auto* early = std::get_if<EarlyExit>(&parsed)) {
    early->json = std::ranges::find(arguments, "--json") != arguments.end();
  }
  return parsed;
}

}  // namespace supervisor
