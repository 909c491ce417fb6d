#include "daemon/service/record.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

InstanceRecord Sample() {
  return {.boot_id = "3f9b6c1e-0000-4000-8000-000000000000",
          .stopped_by_request = true,
          .pid = 4711,
          .start_ticks = 123456789,
          .ready = true,
          .attempts = 2,
          .restart_count = 7,
          .started_unix_ms = 1'790'000'000'123,
          .watchdog_us = 5'000'000,
          .desired_up = true,
          .restarting = true,
          .exited = true,
          .failed = true,
          .oom_events = 3,
          .oom_kills = 4,
          .refused_forks = 5};
}

TEST(Record, ReadsWhatItWrote) {
  const absl::StatusOr<InstanceRecord> record = ParseRecord(FormatRecord(Sample()));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(*record, Sample());
}

TEST(Record, ATornOneIsRefusedWhereverItWasCut) {
  const std::string text = FormatRecord(Sample());
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(ParseRecord(text.substr(0, size)).ok()) << size;
  }
}

TEST(Record, AChangedOneIsRefused) {
  std::string text = FormatRecord(Sample());
  text.replace(text.find("4711"), 4, "4712");
  EXPECT_FALSE(ParseRecord(text).ok());
}

TEST(Record, WhatIsNoneIsRefused) {
  EXPECT_FALSE(ParseRecord("").ok());
  EXPECT_FALSE(ParseRecord("{\"pid\": 1}").ok());
  EXPECT_FALSE(ParseRecord(std::string(5000, '\0')).ok());
}

}  // namespace
}  // namespace supervisor
