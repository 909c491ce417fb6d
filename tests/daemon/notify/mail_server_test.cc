#include "daemon/notify/mail_server.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

MailServer Of(const std::string& url) {
  ChannelConfig channel;
  channel.smtp_url = url;
  return MailServerOf(channel);
}

TEST(MailServer, TheLoginOfTheUrlMeansWhatItLooksLike) {
  struct Case {
    const char* url;
    const char* bare;
    const char* username;
    const char* password;
  };
  for (const Case& each : {Case{"smtp://mail:25", "smtp://mail:25", "", ""},
                           {"smtp://u:p@mail", "smtp://mail", "u", "p"},
                           {"smtps://u@mail:465/", "smtps://mail:465/", "u", ""},
                           {"smtp://u%40d:p%3A%23%2f@mail", "smtp://mail", "u@d", "p:#/"},
                           {"smtp://user@domain:pass@mail", "smtp://mail", "user@domain", "pass"},
                           {"smtp://u:p@ss:word@mail", "smtp://mail", "u", "p@ss:word"},
                           {"smtp://u:100%@mail", "smtp://mail", "u", "100%"},
                           {"smtp://u:%zz%4@mail", "smtp://mail", "u", "%zz%4"},
                           {"smtp://u;x:p;y@mail", "smtp://mail", "u;x", "p;y"},
                           {"smtp://u:p@[::1]:25/me.example", "smtp://[::1]:25/me.example", "u", "p"},
                           {"smtp://mail/a@b", "smtp://mail/a@b", "", ""}}) {
    const MailServer server = Of(each.url);
    EXPECT_EQ(server.url, each.bare) << each.url;
    EXPECT_EQ(server.username, each.username) << each.url;
    EXPECT_EQ(server.password, each.password) << each.url;
    EXPECT_EQ(server.login_options, "") << each.url;
  }
  const MailServer with_options = Of("smtp://u;AUTH=PLAIN:p@mail");
  EXPECT_EQ(with_options.username, "u");
  EXPECT_EQ(with_options.password, "p");
  EXPECT_EQ(with_options.login_options, "AUTH=PLAIN");
}

TEST(MailServer, KeysGoFirstAndAreTakenAsTheyAre) {
  ChannelConfig channel;
  channel.smtp_url = "smtp://other:secret@mail:25/old.example";
  channel.username = "user@domain";
  channel.password = "100%25;:@/#";
  channel.helo = "web1.example";
  const MailServer server = MailServerOf(channel);
  EXPECT_EQ(server.url, "smtp://mail:25/web1.example");
  EXPECT_EQ(server.username, "user@domain");
  EXPECT_EQ(server.password, "100%25;:@/#");
  channel.helo = "[10.0.0.1]";
  EXPECT_EQ(MailServerOf(channel).url, "smtp://mail:25/[10.0.0.1]");
  channel.helo = "ü?";
  EXPECT_EQ(MailServerOf(channel).url, "smtp://mail:25/%C3%BC%3F");
}

}  // namespace
}  // namespace supervisor
