#include "daemon/config/read_global.h"

#include <fmt/format.h>

#include <utility>

#include "common/paths.h"
#include "daemon/config/limits.h"
#include "daemon/config/mail_address.h"
#include "daemon/config/message_text.h"
#include "daemon/config/value_rules.h"

namespace supervisor {
namespace {

constexpr ObjectReader::Choice<std::string_view> kLogLevels[] = {
    {"debug", "debug"}, {"info", "info"}, {"warning", "warning"}, {"error", "error"}};
constexpr ObjectReader::Choice<Severity> kSeverities[] = {
    {"info", Severity::kInfo}, {"warning", Severity::kWarning}, {"critical", Severity::kCritical}};
constexpr ObjectReader::Choice<ChannelType> kChannelTypes[] = {{"webhook", ChannelType::kWebhook},
                                                               {"slack", ChannelType::kSlack},
                                                               {"email", ChannelType::kEmail},
                                                               {"command", ChannelType::kCommand}};

std::optional<std::string> CheckWebUrl(const std::string& url) {
  return url.empty() ? std::optional<std::string>("is empty (expected https://... or http://...)")
                     : UrlProblem(url, "http", "https");
}

std::optional<std::string> CheckMailUrl(const std::string& url) {
  return url.empty() ? std::optional<std::string>("is empty (expected smtp://... or smtps://...)")
                     : UrlProblem(url, "smtp", "smtps");
}

std::optional<std::string> CheckPattern(const std::string& pattern) {
  return pattern.empty()
             ? std::optional<std::string>("is empty (expected a file or a pattern such as \"conf.d/*.json\")")
             : PathProblem(pattern);
}

// A path for which an empty string means the same as none: the default.
void ReadPathOrDefault(ObjectReader& reader, std::string_view key, std::string* out,
                       const ObjectReader::Check& check = nullptr) {
  std::string path;
  if (reader.Path(key, &path, check) && !path.empty()) {
    *out = std::move(path);
  }
}

std::optional<std::string> CheckMailbox(const std::string& text) {
  const absl::StatusOr<Mailbox> mailbox = ParseMailbox(text);
  return mailbox.ok() ? std::nullopt : std::optional<std::string>(mailbox.status().message());
}

std::optional<std::string> CheckHelo(const std::string& name) {
  return name.empty() ? std::nullopt : HeloNameProblem(name);
}

void ReadMail(ObjectReader& reader, ChannelConfig& channel, bool is_needed) {
  reader.String("smtp_url", &channel.smtp_url, is_needed ? CheckMailUrl : ObjectReader::Check());
  reader.String("from", &channel.from, is_needed ? CheckMailbox : ObjectReader::Check());
  for (PlacedText& address : reader.DistinctTexts("to", CheckMailbox)) {
    channel.to.push_back(std::move(address.text));
  }
  reader.String("username", &channel.username);
  reader.String("password", &channel.password);
  reader.String("helo", &channel.helo, CheckHelo);
}

void RequireKey(ObjectReader& reader, std::string_view key, std::string_view expected) {
  if (reader.Take(key) == nullptr) {
    reader.Report(key, fmt::format("is missing (expected {})", expected));
  }
}

void CheckChannel(ObjectReader& reader, const ChannelConfig& channel) {
  switch (channel.type) {
    case ChannelType::kWebhook:
    case ChannelType::kSlack:
      RequireKey(reader, "url", "https://... or http://...");
      break;
    case ChannelType::kEmail: {
      RequireKey(reader, "smtp_url", "smtp://... or smtps://...");
      RequireKey(reader, "from", "the sender's mail address");
      RequireKey(reader, "to", "a list of mail addresses");
      const JsonMember* to = reader.Take("to");
      if (to != nullptr && to->value.kind == JsonKind::kArray && to->value.children.empty()) {
        reader.Report("to", "is empty (expected at least one mail address)");
      }
      if (!channel.password.empty() && channel.username.empty()) {
        reader.Report("password", "stands alone (expected \"username\" beside it)");
      }
      break;
    }
    case ChannelType::kCommand: {
      RequireKey(reader, "command", "the program to run");
      const JsonMember* command = reader.Take("command");
      if (command != nullptr && command->value.kind == JsonKind::kString && command->value.text.empty()) {
        reader.Report("command", "is empty (expected the program to run)");
      }
      break;
    }
  }
}

ChannelConfig ReadChannel(ObjectReader reader) {
  ChannelConfig channel;
  if (!reader.present()) {
    return channel;
  }
  RequireKey(reader, "type", "\"webhook\", \"slack\", \"email\" or \"command\"");
  const bool is_known = reader.Enum("type", kChannelTypes, &channel.type);
  const bool is_web = channel.type == ChannelType::kWebhook || channel.type == ChannelType::kSlack;
  reader.String("url", &channel.url, is_known && is_web ? CheckWebUrl : ObjectReader::Check());
  reader.Map("headers", HeaderNameProblem, HeaderValueProblem, &channel.headers);
  ReadMail(reader, channel, is_known && channel.type == ChannelType::kEmail);
  reader.Bool("verify_tls", &channel.verify_tls);
  reader.Path("ca_file", &channel.ca_file);
  reader.Command(&channel.run);
  if (is_known) {
    CheckChannel(reader, channel);
  }
  reader.Finish({{"webhook_url", "url"},
                 {"smtp", "smtp_url"},
                 {"recipients", "to"},
                 {"user", "username"},
                 {"login", "username"},
                 {"ehlo", "helo"}});
  return channel;
}

AlertRulesConfig ReadAlerts(ObjectReader reader) {
  AlertRulesConfig alerts;
  reader.Number("cpu_percent", 0, limits::kMostCpuPercent, &alerts.cpu_percent);
  reader.Number("memory_mb", 0, limits::kMostMegabytes, &alerts.memory_mb);
  reader.Seconds("for", 0, &alerts.sustained);
  reader.Whole("restarts", 0, limits::kMostAttempts, &alerts.restarts);
  reader.Seconds("restarts_window", limits::kShortestInterval, &alerts.restarts_window);
  reader.Finish();
  return alerts;
}

}  // namespace

ReadGlobalResult ReadGlobal(ObjectReader reader) {
  ReadGlobalResult result;
  GlobalConfig& global = result.global;
  const DefaultPaths defaults = GetDefaultPaths();
  global.socket = defaults.socket;
  global.database = defaults.database;
  global.log_file = defaults.log_directory + "/supervisord.log";
  reader.Seconds("check_interval", limits::kShortestInterval, &global.check_interval);
  reader.Seconds("restart_delay", 0, &global.restart_delay);
  reader.Whole("max_restart_attempts", 0, limits::kMostAttempts, &global.max_restart_attempts);
  reader.Path("log_directory", &global.log_directory);
  reader.Path("pid_directory", &global.pid_directory);
  ReadPathOrDefault(reader, "socket", &global.socket, SocketPathProblem);
  reader.OctalMode("socket_mode", &global.socket_mode);
  reader.String("socket_group", &global.socket_group);
  ReadPathOrDefault(reader, "database", &global.database);
  ReadPathOrDefault(reader, "log_file", &global.log_file);
  reader.Enum("log_level", kLogLevels, &global.log_level);
  reader.Bool("exit_on_critical_failure", &global.exit_on_critical_failure);
  result.include = reader.DistinctTexts("include", CheckPattern);
  for (const PlacedText& pattern : result.include) {
    global.include.push_back(pattern.text);
  }
  for (const auto& [key, directory] :
       {std::pair("log_directory", &global.log_directory), {"pid_directory", &global.pid_directory}}) {
    if (directory->empty()) {
      reader.Report(key, "is empty (expected a directory)");
    }
  }
  reader.Finish({{"log_dir", "log_directory"},
                 {"pid_dir", "pid_directory"},
                 {"delay", "restart_delay"},
                 {"interval", "check_interval"},
                 {"includes", "include"},
                 {"loglevel", "log_level"},
                 {"db", "database"}});
  return result;
}

NotificationsConfig ReadNotifications(ObjectReader reader) {
  NotificationsConfig notifications;
  reader.Bool("enabled", &notifications.enabled);
  reader.Enum("min_severity", kSeverities, &notifications.min_severity);
  reader.Seconds("min_interval", 0, &notifications.min_interval);
  reader.Seconds("repeat_interval", 0, &notifications.repeat_interval);
  if (notifications.repeat_interval > absl::ZeroDuration() &&
      notifications.repeat_interval < absl::Seconds(limits::kShortestRepeat)) {
    reader.Report("repeat_interval",
                  fmt::format("is too short (expected 0 for never, or at least {} seconds)", limits::kShortestRepeat));
  }
  for (ObjectReader& channel : reader.Objects("channels")) {
    notifications.channels.push_back(ReadChannel(std::move(channel)));
  }
  reader.Finish();
  return notifications;
}

MonitoringConfig ReadMonitoring(ObjectReader reader) {
  MonitoringConfig monitoring;
  reader.Seconds("metrics_interval", limits::kShortestInterval, &monitoring.metrics_interval);
  reader.Days("metrics_retention_days", &monitoring.metrics_retention);
  reader.Days("events_retention_days", &monitoring.events_retention);
  monitoring.alerts = ReadAlerts(reader.Object("alerts"));
  reader.Finish();
  return monitoring;
}

}  // namespace supervisor
