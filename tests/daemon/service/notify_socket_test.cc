#include "daemon/service/notify_socket.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

TEST(Notification, TheLinesThatCount) {
  const Notification notification = ParseNotification("STATUS=Loading 3 of 7\nREADY=1\nMAINPID=4711\nX_UNKNOWN=1");
  EXPECT_TRUE(notification.ready);
  EXPECT_FALSE(notification.stopping);
  EXPECT_EQ(notification.status, "Loading 3 of 7");
  EXPECT_EQ(notification.main_pid, 4711);
  EXPECT_TRUE(ParseNotification("STOPPING=1").stopping);
  EXPECT_TRUE(ParseNotification("RELOADING=1\nMONOTONIC_USEC=123").reloading);
  EXPECT_TRUE(ParseNotification("WATCHDOG=1").alive);
  EXPECT_TRUE(ParseNotification("WATCHDOG=trigger").hung);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=2500000").watchdog, absl::Milliseconds(2500));
  EXPECT_EQ(ParseNotification("EXTEND_TIMEOUT_USEC=5000000").extend, absl::Seconds(5));
}

TEST(Notification, ValuesThatMakeNoSenseAreNotSaid) {
  EXPECT_EQ(ParseNotification("MAINPID=-1").main_pid, 0);
  EXPECT_EQ(ParseNotification("MAINPID=1").main_pid, 0) << "no service is init";
  EXPECT_EQ(ParseNotification("MAINPID=12x").main_pid, 0);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=").watchdog, std::nullopt);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=-5").watchdog, std::nullopt);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=18446744073709551615").watchdog, std::nullopt) << "as good as for ever";
  EXPECT_EQ(ParseNotification("EXTEND_TIMEOUT_USEC=1e6").extend, absl::ZeroDuration());
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
