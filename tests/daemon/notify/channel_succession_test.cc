#include "daemon/notify/channel_succession.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;
using ::testing::Pair;

ChannelConfig Webhook(const std::string& url, const std::string& token = "") {
  ChannelConfig channel;
  channel.type = ChannelType::kWebhook;
  channel.url = url;
  channel.headers["X-Token"] = token;
  return channel;
}

ChannelConfig Slack(const std::string& url) {
  ChannelConfig channel;
  channel.type = ChannelType::kSlack;
  channel.url = url;
  return channel;
}

TEST(ChannelSuccession, TheSameOneGoesOnWhereverItStands) {
  const ChannelConfig web = Webhook("https://a.example/x");
  const ChannelConfig slack = Slack("https://hooks.example/y");
  EXPECT_THAT(ChannelSuccessors({web, slack}, {slack, web}), ElementsAre(Optional(1), Optional(0)));
}

TEST(ChannelSuccession, ACorrectedTokenIsTheSameChannel) {
  const std::vector<ChannelConfig> before = {Webhook("https://a.example/x", "worng"), Webhook("https://b.example/")};
  const std::vector<ChannelConfig> after = {Webhook("https://b.example/"), Webhook("https://a.example/x", "right")};
  EXPECT_THAT(ChannelSuccessors(before, after), ElementsAre(Optional(1), Optional(0)));
}

TEST(ChannelSuccession, AtAnotherHostItIsTheOneOfItsTypeThatCame) {
  const std::vector<ChannelConfig> before = {Webhook("https://a.example/"), Slack("https://hooks.example/")};
  const std::vector<ChannelConfig> after = {Slack("https://hooks.example/"), Webhook("https://c.example/")};
  EXPECT_THAT(ChannelSuccessors(before, after), ElementsAre(Optional(1), Optional(0)));
  EXPECT_THAT(SuccessorLabels(before, after), ElementsAre(Pair("slack hooks.example", "slack hooks.example"),
                                                          Pair("webhook a.example", "webhook c.example")));
}

TEST(ChannelSuccession, WhereSeveralCouldBeItNobodyIs) {
  const ChannelConfig a = Webhook("https://a.example/");
  const ChannelConfig b = Webhook("https://b.example/");
  const ChannelConfig c = Webhook("https://c.example/");
  const ChannelConfig slack = Slack("https://hooks.example/");
  EXPECT_THAT(ChannelSuccessors({a}, {b, c}), ElementsAre(std::nullopt));
  EXPECT_THAT(ChannelSuccessors({a, b}, {c}), ElementsAre(std::nullopt, std::nullopt));
  EXPECT_THAT(ChannelSuccessors({a}, {slack}), ElementsAre(std::nullopt));
  EXPECT_THAT(ChannelSuccessors({a}, {}), ElementsAre(std::nullopt));
  EXPECT_THAT(SuccessorLabels({a}, {}), ElementsAre(Pair("webhook a.example", "")));
}

TEST(ChannelSuccession, OfTwoAtOneHostTheSecondMayBecomeTheFirst) {
  const ChannelConfig x = Webhook("https://a.example/x");
  const ChannelConfig y = Webhook("https://a.example/y");
  EXPECT_THAT(ChannelSuccessors({x, y}, {y}), ElementsAre(std::nullopt, Optional(0)));
  EXPECT_THAT(SuccessorLabels({x, y}, {y}),
              ElementsAre(Pair("webhook a.example", ""), Pair("webhook a.example (2)", "webhook a.example")));
}

}  // namespace
}  // namespace supervisor
