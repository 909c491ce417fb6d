#include "daemon/notify/message.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/time_format.h"
#include "common/version.h"
#include "daemon/config/mail_address.h"

namespace supervisor {
namespace {

// More would not be read, and some receivers refuse what is too long (Slack: 40,000 characters).
constexpr size_t kMostShown = 50;
constexpr size_t kMostMessageBytes = 500;

std::string Dump(const nlohmann::ordered_json& json) {
  // A service may have said anything: what is not UTF-8 is replaced rather than thrown at us.
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// What is not UTF-8 replaced.
std::string Utf8(const std::string& text) { return nlohmann::json::parse(Dump(text)).get<std::string>(); }

std::string WithoutControls(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

// Without control characters, and no longer than a person reads.
std::string OneLine(std::string text) {
  text = WithoutControls(std::move(text));
  if (text.size() > kMostMessageBytes) {
    size_t end = kMostMessageBytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
      --end;  // not within a character
    }
    text.resize(end);
    text += "...";
  }
  return text;
}

std::string Subject(const Alert& alert) {
  if (alert.resolved) {
    return fmt::format("resolved: {} {}", alert.service_id, alert.rule);
  }
  return fmt::format("{}: {} {}{}", SeverityName(alert.severity), alert.service_id, alert.rule,
                     alert.repeats > 0 ? " (still open)" : "");
}

std::string Joined(const std::vector<std::string>& ids) {
  std::string text;
  for (const std::string& id : ids) {
    text += (text.empty() ? "" : ", ") + id;
  }
  return text;
}

std::string Line(const Alert& alert, absl::Time now) {
  std::string text;
  if (alert.resolved) {
    text = fmt::format("[resolved] {} {}: {} (raised {} UTC, lasted {})\n", alert.service_id, alert.rule,
                       OneLine(alert.resolution), FormatTimestamp(alert.raised),
                       FormatSpan(*alert.resolved - alert.raised));
  } else {
    text = fmt::format("[{}] {} {}: {} ({} UTC{})\n", SeverityName(alert.severity), alert.service_id, alert.rule,
                       OneLine(alert.message), FormatTimestamp(alert.raised),
                       alert.repeats > 0 ? fmt::format(", still open after {}", FormatSpan(now - alert.raised)) : "");
  }
  if (!alert.dependents.empty()) {
    text += fmt::format("    affects {}\n", OneLine(Joined(alert.dependents)));
  }
  return text;
}

std::string SlackEscaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Base64Lines(const std::string& text) {
  constexpr size_t kLine = 76;
  const std::string encoded = absl::Base64Escape(text);
  std::string lines;
  for (size_t at = 0; at < encoded.size(); at += kLine) {
    lines += encoded.substr(at, kLine) + "\r\n";
  }
  return lines;
}

// Needs no encoded words, and cannot be taken for one.
bool IsPlainAscii(const std::string& text) {
  return text.find("=?") == std::string::npos &&
         std::ranges::all_of(text, [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
}

// Encoded words hold 75 characters at most, so a long one becomes several (RFC 2047, section 2).
std::string HeaderText(const std::string& text) {
  if (IsPlainAscii(text)) {
    return text;
  }
  constexpr size_t kWordBytes = 42;
  std::string words;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(at + kWordBytes, text.size());
    while (end > at + 1 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
      --end;
    }
    words +=
        fmt::format("{}=?UTF-8?B?{}?=", words.empty() ? "" : "\r\n ", absl::Base64Escape(text.substr(at, end - at)));
    at = end;
  }
  return words;
}

// The name in front of an address: as it is, in quotes or in encoded words (RFC 5322, section 3.2.3; RFC 2047).
std::string PhraseText(const std::string& name) {
  constexpr std::string_view kSpecials = "()<>[]:;@\\,.\"";
  if (!IsPlainAscii(name)) {
    return HeaderText(name);
  }
  if (name.find_first_of(kSpecials) == std::string::npos) {
    return name;
  }
  std::string quoted = "\"";
  for (const char c : name) {
    quoted += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return quoted + '"';
}

std::string MailboxText(const std::string& text) {
  const absl::StatusOr<Mailbox> mailbox = ParseMailbox(text);
  if (!mailbox.ok()) {
    return WithoutControls(text);  // the configuration's reader lets no such one pass
  }
  return mailbox->name.empty() ? mailbox->address
                               : fmt::format("{} <{}>", PhraseText(Utf8(mailbox->name)), mailbox->address);
}

// An address a line: a header may be as long as it likes, but none of its lines (RFC 5322, sections 2.1.1 and 2.2.3).
std::string AddressesText(const std::vector<std::string>& addresses) {
  std::string text;
  for (const std::string& address : addresses) {
    text += (text.empty() ? "" : ",\r\n ") + MailboxText(address);
  }
  return text;
}

std::string HostOf(std::string_view url) {
  const size_t scheme = url.find("://");
  url.remove_prefix(scheme == std::string_view::npos ? 0 : scheme + 3);
  url = url.substr(0, url.find_first_of("/?#"));
  if (const size_t at = url.rfind('@'); at != std::string_view::npos) {
    url.remove_prefix(at + 1);  // user and password
  }
  return std::string(url);
}

std::string LabelOf(const ChannelConfig& channel) {
  switch (channel.type) {
    case ChannelType::kWebhook:
      return "webhook " + HostOf(channel.url);
    case ChannelType::kSlack:
      return "slack " + HostOf(channel.url);
    case ChannelType::kEmail:
      return "email " + HostOf(channel.smtp_url);
    case ChannelType::kCommand:
      return "command " + channel.run.command.substr(channel.run.command.rfind('/') + 1);
  }
  return "";
}

}  // namespace

std::string MessageTitle(const std::vector<Alert>& alerts, const MessageFacts& facts) {
  if (alerts.size() == 1) {
    return OneLine(fmt::format("{}: {}", facts.host, Subject(alerts.front())));
  }
  size_t resolved = 0;
  Severity worst = Severity::kInfo;
  for (const Alert& alert : alerts) {
    resolved += alert.resolved ? 1 : 0;
    worst = alert.resolved ? worst : std::max(worst, alert.severity);
  }
  if (resolved == alerts.size()) {
    return OneLine(fmt::format("{}: {} alerts resolved", facts.host, resolved));
  }
  return OneLine(fmt::format("{}: {}: {} alerts{}", facts.host, SeverityName(worst), alerts.size() - resolved,
                             resolved > 0 ? fmt::format(", {} resolved", resolved) : ""));
}

std::string MessageText(const std::vector<Alert>& alerts, const MessageFacts& facts) {
  std::string text;
  const size_t first = alerts.size() - std::min(alerts.size(), kMostShown);
  if (first + facts.left_out > 0) {
    text += fmt::format("{} earlier alerts are left out here: supervisorctl alerts --all\n", first + facts.left_out);
  }
  for (size_t i = first; i < alerts.size(); ++i) {
    text += Line(alerts[i], facts.now);
  }
  return text;
}

std::string WebhookBody(const std::vector<Alert>& alerts, const MessageFacts& facts) {
  nlohmann::ordered_json body = {{"host", facts.host},
                                 {"supervisor", fmt::format("supervisord {}", kVersion)},
                                 {"title", MessageTitle(alerts, facts)},
                                 {"text", MessageText(alerts, facts)},
                                 {"left_out", facts.left_out},
                                 {"test", facts.is_test},
                                 {"alerts", nlohmann::ordered_json::array()}};
  for (const Alert& alert : alerts) {
    nlohmann::ordered_json entry = {{"status", alert.resolved ? "resolved" : "raised"},
                                    {"service_id", alert.service_id},
                                    {"rule", alert.rule},
                                    {"severity", SeverityName(alert.severity)},
                                    {"message", alert.message},
                                    {"repeats", alert.repeats},
                                    {"dependents", alert.dependents},
                                    {"raised_at", FormatTimestamp(alert.raised)},
                                    {"resolved_at", nullptr},
                                    {"resolution", alert.resolution}};
    if (alert.resolved) {
      entry["resolved_at"] = FormatTimestamp(*alert.resolved);
    }
    body["alerts"].push_back(std::move(entry));
  }
  return Dump(body);
}

std::string SlackBody(const std::vector<Alert>& alerts, const MessageFacts& facts) {
  return Dump({{"text", fmt::format("*{}*\n{}", SlackEscaped(MessageTitle(alerts, facts)),
                                    SlackEscaped(MessageText(alerts, facts)))}});
}

std::string MailBody(const ChannelConfig& channel, const std::vector<Alert>& alerts, const MessageFacts& facts) {
  std::string mail =
      fmt::format("Date: {}\r\n", absl::FormatTime("%a, %d %b %Y %H:%M:%S +0000", facts.now, absl::UTCTimeZone()));
  mail += fmt::format("From: {}\r\nTo: {}\r\n", MailboxText(channel.from), AddressesText(channel.to));
  mail += fmt::format("Subject: {}\r\n", HeaderText(Utf8(MessageTitle(alerts, facts))));
  mail += fmt::format("Message-ID: <{}.{}@{}>\r\n", absl::ToUnixMicros(facts.now), facts.number, facts.host);
  mail +=
      "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
      "Content-Transfer-Encoding: base64\r\n\r\n";
  return mail + Base64Lines(Utf8(MessageText(alerts, facts)));
}

std::vector<std::string> ChannelLabels(const std::vector<ChannelConfig>& channels) {
  std::vector<std::string> labels;
  std::map<std::string, int> seen;
  for (const ChannelConfig& channel : channels) {
    std::string label = LabelOf(channel);
    const int count = ++seen[label];
    labels.push_back(count == 1 ? label : fmt::format("{} ({})", label, count));
  }
  return labels;
}

}  // namespace supervisor
