#include "daemon/startup/check_options.h"

#include <fmt/format.h>
#include <getopt.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "common/near_miss.h"
#include "daemon/config/expand.h"
#include "daemon/config/load.h"
#include "daemon/config/status_range.h"

namespace supervisor {

const char* const kCheckHelp =
    R"(One health check now, made as supervisord makes it, without a configured service and without a daemon.

Usage: supervisorctl check http [OPTIONS] URL
       supervisorctl check tcp [OPTIONS] HOST PORT
       supervisorctl check process [OPTIONS] PID
       supervisorctl check script [OPTIONS] CMD [ARGS...]
       supervisorctl check grpc [OPTIONS] HOST PORT

The options are the keys of health_check in the configuration.

  --timeout S              the check as a whole (default: 5)
http:
  --method M               GET, HEAD, POST, PUT, DELETE, OPTIONS or PATCH (default: GET)
  --header 'NAME: VALUE'   may be repeated
  --expected-status N,...  numbers and ranges such as 2xx (default: 200)
  --no-follow-redirects
  --no-verify-tls          take any certificate
  --ca-file FILE           the authorities to trust
  --tls-server-name NAME   whose certificate is expected, where it is not the URL's host
http, grpc:
  --unix-socket PATH       connect there
http, tcp, script:
  --expected-content TEXT  the body, the first bytes the server sends, or the output has to contain it
  --expected-regex RE      has to match it (RE2 syntax)
script:
  --environment E          minimal, or service: all that is in this shell's environment (default: minimal)
process:
  --max-memory-mb MB       of the process and all its descendants
  --max-cpu-percent P      likewise, measured over a second; 100 is one core
grpc:
  --service NAME           whose health is asked for (default: the server as a whole)

  --json                   print one JSON object
  --no-color
  -h, --help

A script's options come behind its name: supervisorctl check script --timeout 2 ./check.sh --verbose. It runs with an
environment of PATH, SERVICE_ID and SERVICE_PID alone, unless --environment says otherwise; all that it leaves behind is
killed.

Exit codes: 0 healthy; 1 failed; 2 usage error; 3 unhealthy; 7 timed out.

Examples:
  supervisorctl check http http://127.0.0.1:8080/health --expected-content ok
  supervisorctl check http --unix-socket /run/app.sock http://localhost/health
  supervisorctl check tcp 127.0.0.1 5432
  supervisorctl check process 4711 --max-memory-mb 500
  supervisorctl check grpc 127.0.0.1 50051 --service orders
)";

namespace {

using Json = nlohmann::ordered_json;

enum TypeBit : unsigned { kHttp = 1, kTcp = 2, kProcess = 4, kScript = 8, kGrpc = 16, kEvery = 31 };

struct TypeName {
  const char* name;
  unsigned bit;
};
constexpr std::array<TypeName, 5> kTypes = {
    {{"http", kHttp}, {"tcp", kTcp}, {"process", kProcess}, {"script", kScript}, {"grpc", kGrpc}}};

enum class Form { kText, kNumber, kStatuses, kHeader, kFalse };

// A flag: the key of health_check it stands for, how its value is written, and which types know it.
struct Flag {
  const char* name;
  const char* key;
  Form form;
  unsigned types;
};
constexpr std::array<Flag, 15> kFlags = {{
    {"timeout", "timeout", Form::kNumber, kEvery},
    {"method", "method", Form::kText, kHttp},
    {"header", "headers", Form::kHeader, kHttp},
    {"expected-status", "expected_status", Form::kStatuses, kHttp},
    {"no-follow-redirects", "follow_redirects", Form::kFalse, kHttp},
    {"no-verify-tls", "verify_tls", Form::kFalse, kHttp},
    {"ca-file", "ca_file", Form::kText, kHttp},
    {"tls-server-name", "tls_server_name", Form::kText, kHttp},
    {"unix-socket", "unix_socket", Form::kText, kHttp | kGrpc},
    {"expected-content", "expected_content", Form::kText, kHttp | kTcp | kScript},
    {"expected-regex", "expected_regex", Form::kText, kHttp | kTcp | kScript},
    {"environment", "environment", Form::kText, kScript},
    {"max-memory-mb", "max_memory_mb", Form::kNumber, kProcess},
    {"max-cpu-percent", "max_cpu_percent", Form::kNumber, kProcess},
    {"service", "service", Form::kText, kGrpc},
}};
constexpr int kFirstFlag = 256;
constexpr int kJson = kFirstFlag + static_cast<int>(kFlags.size());
constexpr int kNoColor = kJson + 1;
constexpr int kSocket = kJson + 2;

std::vector<option> LongOptions() {
  std::vector<option> options;
  for (size_t i = 0; i < kFlags.size(); ++i) {
    options.push_back({kFlags[i].name, kFlags[i].form == Form::kFalse ? no_argument : required_argument, nullptr,
                       kFirstFlag + static_cast<int>(i)});
  }
  options.push_back({"json", no_argument, nullptr, kJson});
  options.push_back({"no-color", no_argument, nullptr, kNoColor});
  options.push_back({"socket", required_argument, nullptr, kSocket});  // of every supervisorctl call; not needed here
  options.push_back({"help", no_argument, nullptr, 'h'});
  options.push_back({nullptr, 0, nullptr, 0});
  return options;
}

absl::Status UsageError(const std::string& what) {
  return absl::InvalidArgumentError(what + "\nSee: supervisorctl check --help");
}

std::string DidYouMean(const std::string& given, const std::vector<std::string>& known) {
  const std::vector<std::string> near = NearMisses(given, known, 1);
  return near.empty() ? "" : fmt::format(" (did you mean {}?)", near.front());
}

// A configuration replaces ${NAME}; a shell has done that already.
std::string Literal(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("${")) {
      out += '$';
    }
    out += text[i];
  }
  return out;
}

std::optional<Json> NumberOf(std::string_view text) {
  const char* end = text.data() + text.size();
  int64_t whole = 0;
  if (const auto [rest, error] = std::from_chars(text.data(), end, whole); error == std::errc() && rest == end) {
    return Json(whole);
  }
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end && std::isfinite(value) ? std::optional<Json>(value) : std::nullopt;
}

// The command line as the members of health_check and the arguments between.
class CommandLine {
 public:
  absl::Status Read(int argc, char** argv) {
    const std::vector<option> options = LongOptions();
    opterr = 0;
    optind = 1;
    while (optind < argc) {
      const int here = optind;
      // "+": stops at the first argument that is no option. Before there is another thread.
      const int choice = getopt_long(argc, argv, "+:h", options.data(), nullptr);  // NOLINT(concurrency-mt-unsafe)
      if (choice == -1) {
        TakeArguments(argc, argv, std::string_view(argv[here]) == "--");
        continue;
      }
      if (absl::Status status = TakeOption(choice, argv[here]); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }

  const std::vector<std::string>& arguments() const { return arguments_; }
  Json& members() { return members_; }
  bool json() const { return json_; }
  bool no_color() const { return no_color_; }
  bool help() const { return help_; }

  // The first flag that this type does not know.
  absl::Status CheckFlags(const TypeName& type) const {
    for (const Flag* flag : given_) {
      if ((flag->types & type.bit) == 0) {
        return UsageError(fmt::format("--{} does not go with {}", flag->name, type.name));
      }
    }
    return absl::OkStatus();
  }

 private:
  // One argument, or all that are left: behind "--", and of a script, whose options are its own.
  void TakeArguments(int argc, char** argv, bool all) {
    const bool is_script = !arguments_.empty() && arguments_.front() == "script";
    do {
      arguments_.emplace_back(argv[optind++]);
    } while (optind < argc && (all || is_script));
  }

  absl::Status TakeOption(int choice, const char* word) {
    if (choice >= kFirstFlag && choice < kJson) {
      return TakeFlag(kFlags[static_cast<size_t>(choice - kFirstFlag)]);
    }
    switch (choice) {
      case kJson:
        json_ = true;
        return absl::OkStatus();
      case kNoColor:
        no_color_ = true;
        return absl::OkStatus();
      case kSocket:
        return absl::OkStatus();
      case 'h':
        help_ = true;
        return absl::OkStatus();
      case ':':
        return UsageError(fmt::format("{} needs a value", word));
      default:
        break;
    }
    std::vector<std::string> known;
    for (const option& entry : LongOptions()) {
      if (entry.name != nullptr) {
        known.push_back(fmt::format("--{}", entry.name));
      }
    }
    return UsageError(fmt::format("unknown option {}{}", word, DidYouMean(word, known)));
  }

  absl::Status TakeFlag(const Flag& flag) {
    given_.push_back(&flag);
    switch (flag.form) {
      case Form::kText:
        members_[flag.key] = Literal(optarg);
        return absl::OkStatus();
      case Form::kFalse:
        members_[flag.key] = false;
        return absl::OkStatus();
      case Form::kNumber:
        if (const std::optional<Json> number = NumberOf(optarg)) {
          members_[flag.key] = *number;
          return absl::OkStatus();
        }
        return UsageError(fmt::format("--{} \"{}\": not a number", flag.name, optarg));
      case Form::kStatuses:
        return TakeStatuses(flag, optarg);
      case Form::kHeader:
        return TakeHeader(flag, optarg);
    }
    return absl::OkStatus();
  }

  absl::Status TakeStatuses(const Flag& flag, std::string_view text) {
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view word = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), word.size() + 1));
      const std::optional<Json> number = NumberOf(word);
      if (!number && !ParseStatusRange(word)) {
        return UsageError(
            fmt::format("--{} \"{}\": not a number or a range such as 2xx, with commas between", flag.name, text));
      }
      members_[flag.key].push_back(number.value_or(Json(std::string(word))));
    }
    return absl::OkStatus();
  }

  absl::Status TakeHeader(const Flag& flag, std::string_view text) {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) {
      return UsageError(fmt::format("--{} \"{}\": no colon (expected 'Name: value')", flag.name, text));
    }
    std::string_view value = text.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    members_[flag.key][std::string(text.substr(0, colon))] = Literal(value);
    return absl::OkStatus();
  }

  std::vector<std::string> arguments_;
  std::vector<const Flag*> given_;
  Json members_ = Json::object();
  bool json_ = false;
  bool no_color_ = false;
  bool help_ = false;
};

// What stands between the type and the end, as members too.
absl::Status TakeTarget(unsigned type, std::vector<std::string> words, Json& members, CheckOptions& options) {
  const auto expect = [&](size_t count, const char* usage) {
    return words.size() == count
               ? absl::OkStatus()
               : UsageError(fmt::format("{}: takes {}, not {} arguments", options.type, usage, words.size()));
  };
  absl::Status status;
  if (type == kHttp) {
    if (status = expect(1, "a URL"); status.ok()) {
      options.target = words[0];
      members["url"] = Literal(words[0]);
    }
  } else if (type == kScript) {
    if (words.empty()) {
      return UsageError("script: the command is missing");
    }
    options.target = words[0];
    members["command"] = Literal(words[0]);
    members["args"] = Json::array();
    for (size_t i = 1; i < words.size(); ++i) {
      members["args"].push_back(Literal(words[i]));
    }
  } else if (type == kProcess) {
    if (status = expect(1, "a PID"); status.ok()) {
      const char* end = words[0].data() + words[0].size();
      const auto [rest, error] = std::from_chars(words[0].data(), end, options.pid);
      options.target = words[0];
      if (error != std::errc() || rest != end || options.pid <= 0) {
        return UsageError(fmt::format("process: \"{}\" is no process id", words[0]));
      }
    }
  } else if (type == kGrpc && members.contains("unix_socket")) {
    status = expect(0, "no HOST and PORT beside --unix-socket");
    options.target = members["unix_socket"];
  } else if (status = expect(2, "HOST and PORT"); status.ok()) {
    options.target = fmt::format("{}:{}", words[0], words[1]);
    members["host"] = Literal(words[0]);
    const std::optional<Json> port = NumberOf(words[1]);
    if (!port) {
      return UsageError(fmt::format("{}: \"{}\" is no port", options.type, words[1]));
    }
    members["port"] = *port;
  }
  return status;
}

// The configuration's words about a key, as words about the command line.
std::string Explain(const ConfigError& error) {
  constexpr std::string_view kPrefix = "services.check.health_check.";
  std::string_view key = error.path;
  if (!key.starts_with(kPrefix)) {
    return error.message;
  }
  key.remove_prefix(kPrefix.size());
  for (const Flag& flag : kFlags) {
    if (key.starts_with(flag.key)) {
      return fmt::format("--{} {}", flag.name, error.message);
    }
  }
  std::string name(key);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return fmt::format("{} {}", name, error.message);
}

std::string CurrentDirectory() {
  const std::unique_ptr<char, decltype(&std::free)> here(getcwd(nullptr, 0), std::free);
  return here != nullptr ? here.get() : "/";
}

}  // namespace

absl::StatusOr<CheckOptions> ParseCheckOptions(int argc, char** argv) {
  CommandLine line;
  if (absl::Status status = line.Read(argc, argv); !status.ok()) {
    return status;
  }
  CheckOptions options;
  options.json = line.json();
  options.no_color = line.no_color();
  options.help = line.help();
  if (options.help) {
    return options;
  }
  std::vector<std::string> words = line.arguments();
  if (words.empty()) {
    return UsageError("the TYPE of the check is missing: http, tcp, process, script or grpc");
  }
  options.type = words.front();
  words.erase(words.begin());
  const auto* type = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const TypeName& candidate) { return candidate.name == options.type; });
  if (type == kTypes.end()) {
    std::vector<std::string> names(kTypes.size());
    std::transform(kTypes.begin(), kTypes.end(), names.begin(), [](const TypeName& known) { return known.name; });
    return UsageError(fmt::format("\"{}\" is no type of check: http, tcp, process, script or grpc{}", options.type,
                                  DidYouMean(options.type, names)));
  }
  if (absl::Status status = line.CheckFlags(*type); !status.ok()) {
    return status;
  }
  line.members()["type"] = options.type;
  if (absl::Status status = TakeTarget(type->bit, std::move(words), line.members(), options); !status.ok()) {
    return status;
  }
  // Read as a configuration is, so that every rule of that holds here too.
  const Json document = {{"version", "1.0"},
                         {"services", {{"check", {{"command", "/bin/true"}, {"health_check", line.members()}}}}}};
  options.working_directory = CurrentDirectory();
  const LoadedConfig loaded = LoadConfig(
      {ConfigText{.path = fmt::format("{}/check", options.working_directory == "/" ? "" : options.working_directory),
                  .text = document.dump(-1, ' ', false, Json::error_handler_t::replace)}});
  if (!loaded.config) {
    std::string problems;
    for (const ConfigError& error : loaded.errors) {
      problems += fmt::format("{}{}: {}", problems.empty() ? "" : "\n", options.type, Explain(error));
    }
    return UsageError(problems);
  }
  options.check = ForInstance(loaded.config->services.at("check"), 0).health_check;
  return options;
}

}  // namespace supervisor
