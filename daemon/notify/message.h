#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/notify/alert.h"

namespace supervisor {

// What a channel says of some alerts, all told at once.
struct MessageFacts {
  std::string host;       // of this machine
  uint64_t left_out = 0;  // alerts that the channel's queue had no room for
  absl::Time now;         // wall clock
  uint64_t number = 0;    // of the message, for mail
  bool is_test = false;   // somebody tries the channel: nothing has happened
};

// "host: critical: web failed", "host: resolved: web failed", "host: 3 alerts, 1 resolved (critical)". One line.
std::string MessageTitle(const std::vector<Alert>& alerts, const MessageFacts& facts);
// A line an alert, with what is affected under it.
std::string MessageText(const std::vector<Alert>& alerts, const MessageFacts& facts);

// {"host","supervisor","title","text","left_out","alerts":[{"status":"raised|resolved","service_id","rule","severity",
// "message","dependents":[],"raised_at","resolved_at","resolution"}]}: the body of a webhook, and what a command gets
// on its standard input.
std::string WebhookBody(const std::vector<Alert>& alerts, const MessageFacts& facts);
// {"text"} as Slack's incoming webhooks take it, with &, < and > escaped
// (https://api.slack.com/reference/surfaces/formatting#escaping).
std::string SlackBody(const std::vector<Alert>& alerts, const MessageFacts& facts);
// RFC 5322 with CRLF; the text is base64 (RFC 2045), the subject RFC 2047 where it is not plain ASCII.
std::string MailBody(const ChannelConfig& channel, const std::vector<Alert>& alerts, const MessageFacts& facts);

// How a channel is called, without anything secret: its type and the host or program, made distinct by "(2)" where
// several are alike. In the order of config.channels.
std::vector<std::string> ChannelLabels(const std::vector<ChannelConfig>& channels);

}  // namespace supervisor
