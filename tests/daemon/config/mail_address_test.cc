#include "daemon/config/mail_address.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

TEST(MailAddress, IsReadAsPeopleWriteIt) {
  struct Case {
    const char* text;
    const char* name;
    const char* address;
  };
  for (const Case& each : {Case{"a@b", "", "a@b"},
                           {"root", "", "root"},
                           {" a@b ", "", "a@b"},
                           {"<a@b>", "", "a@b"},
                           {"Name <a@b>", "Name", "a@b"},
                           {"Two Words<a@b>", "Two Words", "a@b"},
                           {"Last, First <a@b>", "Last, First", "a@b"},
                           {"\"Last, First\" <a@b>", "Last, First", "a@b"},
                           {R"("Say \"x\" \\" <a@b>)", R"(Say "x" \)", "a@b"},
                           {"Überwachung <ü@exämple.org>", "Überwachung", "ü@exämple.org"},
                           {"at@home <a@b>", "at@home", "a@b"},
                           {"a+tag@b.example.org", "", "a+tag@b.example.org"}}) {
    const absl::StatusOr<Mailbox> mailbox = ParseMailbox(each.text);
    ASSERT_TRUE(mailbox.ok()) << each.text;
    EXPECT_EQ(mailbox->name, each.name) << each.text;
    EXPECT_EQ(mailbox->address, each.address) << each.text;
  }
}

TEST(MailAddress, IsRefused) {
  for (const char* text :
       {"",   " ",       "a b@c",           "A a@b",         "a@b, c@d",     "a@b, Name <c@d>", "Name <a@b",     "a@b>",
        "<>", "Name <>", "Name <a b>",      "x <a@b> <c@d>", "\"open <a@b>", "\"a\"b\" <a@b>",  "\"a\\\" <a@b>", "a@b;",
        "a@", "@b",      "a@b\r\nBcc: c@d", "Name\n<a@b>",   "Na\tme <a@b>"}) {
    EXPECT_FALSE(ParseMailbox(text).ok()) << text;
  }
}

}  // namespace
}  // namespace supervisor
