#include "daemon/service/notify_socket.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

TEST(Notification, TheLinesThatCount) {
  const Notification notification = ParseNotification("STATUS=Loading 3 of 7\nREADY=1\nMAINPID=4711\nX_UNKNOWN=1");
  EXPECT_TRUE(notification.ready);
  EXPECT_FALSE(notification.stopping);
  EXPECT_EQ(notification.status, "Loading 3 of 7");
  EXPECT_TRUE(ParseNotification("STOPPING=1").stopping);
}

TEST(Notification, WhatIsNotReadyIsNot) {
  EXPECT_FALSE(ParseNotification("READY=0").ready);
  EXPECT_FALSE(ParseNotification("READY=10").ready);
  EXPECT_FALSE(ParseNotification("").ready);
  EXPECT_FALSE(ParseNotification("NOTREADY=1\n\n\n").ready);
}

TEST(Notification, AStatusIsOneBoundedPrintableLine) {
  EXPECT_EQ(ParseNotification("STATUS=a\tb\x1b[31m").status, "a?b?[31m");
  EXPECT_LE(ParseNotification("STATUS=" + std::string(5000, 'x')).status.size(), 256u);
}

}  // namespace
}  // namespace supervisor
