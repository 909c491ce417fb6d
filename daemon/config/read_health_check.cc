#include "daemon/config/read_health_check.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

#include "daemon/config/limits.h"
#include "daemon/config/read_status_ranges.h"
#include "daemon/config/value_rules.h"

namespace supervisor {
namespace {

constexpr ObjectReader::Choice<HealthCheckType> kTypes[] = {{"http", HealthCheckType::kHttp},
                                                            {"tcp", HealthCheckType::kTcp},
                                                            {"process", HealthCheckType::kProcess},
                                                            {"script", HealthCheckType::kScript},
                                                            {"grpc", HealthCheckType::kGrpc}};
constexpr ObjectReader::Choice<ScriptEnvironment> kScriptEnvironments[] = {{"minimal", ScriptEnvironment::kMinimal},
                                                                           {"service", ScriptEnvironment::kService}};
constexpr ObjectReader::Choice<std::string_view> kMethods[] = {
    {"GET", "GET"},       {"HEAD", "HEAD"},       {"POST", "POST"},  {"PUT", "PUT"},
    {"DELETE", "DELETE"}, {"OPTIONS", "OPTIONS"}, {"PATCH", "PATCH"}};

std::optional<std::string> CheckUrl(const std::string& url) {
  return url.empty() ? std::nullopt : UrlProblem(url, "http", "https");
}
std::optional<std::string> CheckServerName(const std::string& name) {
  return name.empty() ? std::nullopt : HostProblem(name);
}
std::optional<std::string> CheckRegex(const std::string& regex) {
  return regex.empty() ? std::nullopt : RegexProblem(regex);
}

void ReadHttp(ObjectReader& reader, HealthCheckConfig& check) {
  reader.String("url", &check.url, CheckUrl);
  reader.Enum("method", kMethods, &check.method);
  reader.Map("headers", HeaderNameProblem, HeaderValueProblem, &check.headers);
  reader.Path("unix_socket", &check.unix_socket, SocketPathProblem);
  reader.Bool("verify_tls", &check.verify_tls);
  reader.Path("ca_file", &check.ca_file);
  reader.Bool("follow_redirects", &check.follow_redirects);
  reader.String("tls_server_name", &check.tls_server_name, CheckServerName);
  ReadStatusRanges(reader, "expected_status", &check.expected_status);
}

void ReadTiming(ObjectReader& reader, HealthCheckConfig& check) {
  reader.Seconds("interval", limits::kShortestInterval, &check.interval);
  reader.Seconds("timeout", limits::kShortestInterval, &check.timeout);
  reader.Whole("retries", 1, limits::kMostAttempts, &check.retries);
  reader.Seconds("start_period", 0, &check.start_period);
  reader.Whole("success_threshold", 1, limits::kMostAttempts, &check.success_threshold);
}

// A key that is there but wrong has had its own error.
void Require(ObjectReader& reader, std::string_view key, bool is_empty, std::string_view expected) {
  const JsonMember* member = reader.Take(key);
  const bool is_given_empty =
      member != nullptr && ((member->value.kind == JsonKind::kString && member->value.text.empty()) ||
                            (member->value.kind == JsonKind::kNumber && member->value.number == 0));
  if (member == nullptr) {
    reader.Report(key, fmt::format("is missing ({})", expected));
  } else if (is_empty && is_given_empty) {
    reader.Report(key, fmt::format("is empty ({})", expected));
  }
}

void RequireUrl(ObjectReader& reader, const HealthCheckConfig& check) {
  std::string expected = "expected the address to ask, such as \"http://127.0.0.1:8080/health\"";
  if (reader.Take("type") == nullptr && check.url.empty()) {
    const bool is_script = !check.run.command.empty();
    const bool is_tcp = check.port != 0;
    expected += is_script ? "; did you mean \"type\": \"script\"?" : is_tcp ? "; did you mean \"type\": \"tcp\"?" : "";
  }
  Require(reader, "url", check.url.empty(), expected);
}

void CheckType(ObjectReader& reader, const HealthCheckConfig& check) {
  switch (check.type) {
    case HealthCheckType::kNone:  // "type" is wrong, so nothing is known of what it needs
    case HealthCheckType::kProcess:
      break;
    case HealthCheckType::kHttp:
      RequireUrl(reader, check);
      if (check.method == "HEAD" && !(check.expected_content.empty() && check.expected_regex.empty())) {
        reader.Report("method", "is \"HEAD\", whose answers have no content to compare (expected \"GET\")");
      }
      break;
    case HealthCheckType::kGrpc:
      if (!check.unix_socket.empty()) {
        break;
      }
      [[fallthrough]];
    case HealthCheckType::kTcp:
      Require(reader, "port", check.port == 0, "expected the port to connect to, from 1 to 65535");
      break;
    case HealthCheckType::kScript:
      Require(reader, "command", check.run.command.empty(),
              "expected the program to run, which exits with 0 when healthy");
      break;
  }
}

}  // namespace

HealthCheckConfig ReadHealthCheck(ObjectReader reader, const GlobalConfig& global) {
  HealthCheckConfig check;
  check.interval = global.check_interval;
  if (!reader.present()) {
    return check;
  }
  if (reader.Take("type") == nullptr) {
    check.type = HealthCheckType::kHttp;
  }
  reader.Enum("type", kTypes, &check.type);
  ReadHttp(reader, check);
  reader.String("expected_content", &check.expected_content);
  reader.String("expected_regex", &check.expected_regex, CheckRegex);
  reader.String("host", &check.host, HostProblem);
  reader.Whole("port", 0, limits::kLargestPort, &check.port);
  reader.String("service", &check.service);
  reader.Number("max_cpu_percent", 0, limits::kMostCpuPercent, &check.max_cpu_percent);
  reader.Number("max_memory_mb", 0, limits::kMostMegabytes, &check.max_memory_mb);
  reader.Command(&check.run);
  reader.Enum("environment", kScriptEnvironments, &check.script_environment);
  ReadTiming(reader, check);
  reader.Enum("on_failure", kOnFailureChoices, &check.on_failure);
  CheckType(reader, check);
  reader.Finish({{"path", "url"},
                 {"endpoint", "url"},
                 {"test", "command"},
                 {"script", "command"},
                 {"failure_threshold", "retries"},
                 {"period", "interval"},
                 {"initial_delay", "start_period"},
                 {"status", "expected_status"},
                 {"server_name", "tls_server_name"},
                 {"sni", "tls_server_name"},
                 {"env", "environment"}});
  return check;
}

}  // namespace supervisor
