#include "daemon/notify/message.h"

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kRaised = absl::FromUnixMillis(1795419000987);  // 2026-11-23 07:30:00.987
const MessageFacts kFacts{.host = "box", .left_out = 0, .now = kRaised + absl::Seconds(1), .number = 7};

Alert Raised(std::string id, std::string message, Severity severity = Severity::kWarning) {
  Alert alert;
  alert.service_id = std::move(id);
  alert.rule = "failed";
  alert.severity = severity;
  alert.message = std::move(message);
  alert.raised = kRaised;
  return alert;
}

Alert Resolved(std::string id) {
  Alert alert = Raised(std::move(id), "gone");
  alert.resolved = kRaised + absl::Seconds(90);
  alert.resolution = "it runs again";
  return alert;
}

TEST(Message, TitlesSayTheWorst) {
  EXPECT_EQ(MessageTitle({Raised("web", "x", Severity::kCritical)}, kFacts), "box: critical: web failed");
  EXPECT_EQ(MessageTitle({Resolved("web")}, kFacts), "box: resolved: web failed");
  EXPECT_EQ(MessageTitle({Raised("web", "x"), Raised("db", "x", Severity::kCritical), Resolved("api")}, kFacts),
            "box: critical: 2 alerts, 1 resolved");
  EXPECT_EQ(MessageTitle({Resolved("a"), Resolved("b")}, kFacts), "box: 2 alerts resolved");
}

TEST(Message, TheTextHasALineAnAlert) {
  Alert alert = Raised("db", "killed by\nSIGKILL");
  alert.dependents = {"app", "web"};
  MessageFacts facts = kFacts;
  facts.left_out = 3;
  EXPECT_EQ(MessageText({alert, Resolved("api")}, facts),
            "3 earlier alerts are left out here: supervisorctl alerts --all\n"
            "[warning] db failed: killed by SIGKILL (2026-11-23 07:30:00.987 UTC)\n"
            "    affects app, web\n"
            "[resolved] api failed: it runs again (raised 2026-11-23 07:30:00.987 UTC, lasted 1m 30s)\n");
}

TEST(Message, AWebhookGetsValidJsonWhateverWasSaid) {
  const auto body = nlohmann::json::parse(WebhookBody({Raised("web", "\xff \"quoted\" \x01"), Resolved("db")}, kFacts));
  EXPECT_EQ(body["host"], "box");
  EXPECT_EQ(body["alerts"][0]["status"], "raised");
  EXPECT_EQ(body["alerts"][0]["message"], "\xEF\xBF\xBD \"quoted\" \x01");
  EXPECT_TRUE(body["alerts"][0]["resolved_at"].is_null());
  EXPECT_EQ(body["alerts"][1]["status"], "resolved");
  EXPECT_EQ(body["alerts"][1]["resolved_at"], "2026-11-23 07:31:30.987");
}

TEST(Message, SlackIsEscaped) {
  const auto body = nlohmann::json::parse(SlackBody({Raised("web", "a <!channel> & b")}, kFacts));
  EXPECT_THAT(body["text"].get<std::string>(), HasSubstr("a &lt;!channel&gt; &amp; b"));
}

TEST(Message, AMailCannotBeGivenHeadersByAService) {
  ChannelConfig channel;
  channel.from = "a@example.org";
  channel.to = {"b@example.org", "c@example.org"};
  const std::string mail = MailBody(channel, {Raised("web", "x\r\nBcc: everybody@example.org\r\n.\r\nend")}, kFacts);
  const std::string head = mail.substr(0, mail.find("\r\n\r\n"));
  EXPECT_THAT(head, HasSubstr("Subject: box: warning: web failed\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nTo: b@example.org,\r\n c@example.org\r\n"));
  EXPECT_THAT(head, HasSubstr("Date: Mon, 23 Nov 2026 07:30:01 +0000"));
  EXPECT_THAT(mail, Not(HasSubstr("Bcc")));
  std::string text;
  std::string encoded = mail.substr(mail.find("\r\n\r\n") + 4);
  ASSERT_TRUE(absl::Base64Unescape(encoded, &text));
  EXPECT_THAT(text, HasSubstr("x  Bcc: everybody@example.org"));
}

TEST(Message, AMailNamesAllItsRecipientsHoweverMany) {
  ChannelConfig channel;
  for (int i = 0; i < 100; ++i) {
    channel.to.push_back(fmt::format("somebody.of.the.team.{}@a.rather.long.name.example.org", i));
  }
  const std::string mail = MailBody(channel, {Raised("web", "x")}, kFacts);
  const size_t begin = mail.find("\r\nTo: ") + 6;
  EXPECT_EQ(mail.substr(begin, mail.find("\r\nSubject: ") - begin), fmt::format("{}", fmt::join(channel.to, ",\r\n ")));
}

TEST(Message, ASubjectBeyondAsciiIsEncoded) {
  MessageFacts facts = kFacts;
  facts.host = "k\xC3\xB6ln";
  ChannelConfig channel;
  const std::string mail = MailBody(channel, {Raised("web", "x")}, facts);
  EXPECT_THAT(mail, HasSubstr("Subject: =?UTF-8?B?"));
}

TEST(Message, NamesOfAddressesAreWrittenAsMailHasThem) {
  ChannelConfig channel;
  channel.from = "Überwachung <a@b>";
  channel.to = {"Plain Name <c@d>", "Last, First <e@f>", R"("Say \"x\"" <g@h>)", "<i@j>", "k@l", "=?x?= <m@n>"};
  const std::string mail = MailBody(channel, {Raised("web", "x")}, kFacts);
  EXPECT_THAT(mail, HasSubstr("From: =?UTF-8?B?w5xiZXJ3YWNodW5n?= <a@b>\r\n"));
  EXPECT_THAT(mail, HasSubstr("To: Plain Name <c@d>,\r\n \"Last, First\" <e@f>,\r\n \"Say \\\"x\\\"\" <g@h>,\r\n i@j,"
                              "\r\n k@l,\r\n =?UTF-8?B?PT94Pz0=?= <m@n>\r\n"));
}

TEST(Message, AMailIsValidUtf8WhateverWasSaid) {
  MessageFacts facts = kFacts;
  facts.host = "k\xF6ln";
  const std::string mail = MailBody(ChannelConfig(), {Raised("web", "caf\xE9")}, facts);
  EXPECT_THAT(mail, HasSubstr("Subject: =?UTF-8?B?" + absl::Base64Escape("k\xEF\xBF\xBDln: warning: web failed")));
  std::string text;
  ASSERT_TRUE(absl::Base64Unescape(mail.substr(mail.find("\r\n\r\n") + 4), &text));
  EXPECT_THAT(text, HasSubstr("caf\xEF\xBF\xBD"));
}

TEST(Message, ARepetitionSaysSo) {
  Alert again = Raised("web", "gone");
  again.repeats = 2;
  MessageFacts facts = kFacts;
  facts.now = kRaised + absl::Minutes(20);
  EXPECT_EQ(MessageTitle({again}, facts), "box: warning: web failed (still open)");
  EXPECT_THAT(MessageText({again}, facts), HasSubstr("UTC, still open after 20m 0s)"));
  const auto body = nlohmann::json::parse(WebhookBody({again, Raised("db", "x")}, facts));
  EXPECT_EQ(body["alerts"][0]["status"], "raised");
  EXPECT_EQ(body["alerts"][0]["repeats"], 2);
  EXPECT_EQ(body["alerts"][1]["repeats"], 0);
  EXPECT_EQ(body["test"], false);
}

TEST(Message, LongOnesAreCut) {
  std::vector<Alert> alerts;
  for (int i = 0; i < 1000; ++i) {
    alerts.push_back(Raised("s" + std::to_string(i), std::string(5000, 'x')));
  }
  const std::string text = MessageText(alerts, kFacts);
  EXPECT_LT(text.size(), 40'000u);
  EXPECT_THAT(text, HasSubstr("950 earlier alerts are left out"));
  EXPECT_THAT(text, HasSubstr("s999 failed"));
}

TEST(Message, LabelsHoldNothingSecret) {
  ChannelConfig slack;
  slack.type = ChannelType::kSlack;
  slack.url = "https://hooks.slack.com/services/T0/B0/secret";
  ChannelConfig mail;
  mail.type = ChannelType::kEmail;
  mail.smtp_url = "smtps://me:p@ss@mail.example.org:465";
  ChannelConfig hook;
  hook.url = "http://u:p@[::1]:80?token=secret";
  ChannelConfig command;
  command.type = ChannelType::kCommand;
  command.run.command = "/usr/local/bin/tell";
  EXPECT_THAT(ChannelLabels({slack, mail, hook, command, slack}),
              ElementsAre("slack hooks.slack.com", "email mail.example.org:465", "webhook [::1]:80", "command tell",
                          "slack hooks.slack.com (2)"));
}

}  // namespace
}  // namespace supervisor
