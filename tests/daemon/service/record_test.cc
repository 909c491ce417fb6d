#include "daemon/service/record.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>

#include "common/atomic_file.h"
#include "common/checksum.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

InstanceRecord Sample() {
  return {
      .boot = {.boot_id = "3f9b6c1e-0000-4000-8000-000000000000", .pid_namespace = 4026531836, .init_start_ticks = 12},
      .stopped_by_request = true,
      .pid = 4711,
      .start_ticks = 123456789,
      .ready = true,
      .attempts = 2,
      .restart_count = 7,
      .started_unix_ms = 1'790'000'000'123,
      .started_boot_ms = 1'234'567'890,
      .watchdog_us = 5'000'000,
      .desired_up = true,
      .restarting = true,
      .exited = true,
      .failed = true,
      .oom_events = 3,
      .oom_kills = 4,
      .refused_forks = 5,
      .spawn = 9,
      .last_restart_unix_ms = 1'790'000'000'456,
      .last_exit = WaitStatus::Signaled(SIGSEGV, true),
      .exit_untold = true,
      .ended_pid = 4711,
      .failure = "unhealthy: two\nlines\tand a tab, \"quoted\" \\ and \x01",
      .reason = "gäve up",
      .backoff_until_ms = 77,
      .untold = {{.id = 0,
                  .service_id = "",
                  .event_type = "exited",
                  .timestamp = absl::FromUnixMillis(1'790'000'000'789),
                  .message = "killed by SIGSEGV\n",
                  .details = "{\"pid\":4711,\"reason\":\"a\\tb\"}",
                  .actor = "service"},
                 {.id = 0,
                  .service_id = "",
                  .event_type = "stopped",
                  .timestamp = absl::FromUnixMillis(1'790'000'000'790),
                  .message = "",
                  .details = "",
                  .actor = ""}},
      .mark = "0123456789abcdef0123456789abcdef",
      .owner = 65534,
      .health = {.health = "unhealthy",
                 .consecutive_failures = 6,
                 .consecutive_successes = 1,
                 .succeeded_once = true,
                 .checks = 900,
                 .successes = 890},
      .environment_file_digest = 0xfedcba9876543210u,
      .process_name = "w:0"};
}

TEST(Record, ReadsWhatItWrote) {
  const absl::StatusOr<InstanceRecord> record = ParseRecord(FormatRecord(Sample()));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(*record, Sample());
}

TEST(Record, TheStartIsThatOfTheProcessWhereItDoesNotSay) {
  InstanceRecord record = Sample();
  EXPECT_EQ(StartSinceBoot(record), absl::Milliseconds(1'234'567'890));
  record.started_boot_ms = 0;
  record.start_ticks = ClockTicks(absl::Seconds(42));
  EXPECT_EQ(StartSinceBoot(record), absl::Seconds(42));
}

TEST(Record, OneOfUsualSizeIsAPageSoThatItCanBeWrittenOverTheLast) {
  InstanceRecord record = Sample();
  EXPECT_EQ(FormatRecord(record).size(), kPageSize);
  for (size_t size = 0; size < 5000; ++size) {
    record.reason = std::string(size, 'x');
    const std::string text = FormatRecord(record);
    EXPECT_EQ(*ParseRecord(text), record) << size;
    EXPECT_LE(text.size(), std::max(kPageSize, size + 1500));
  }
}

TEST(Record, EveryWayToEndIsReadBack) {
  for (const WaitStatus& status : {WaitStatus::Exited(0), WaitStatus::Exited(255), WaitStatus::Signaled(SIGKILL),
                                   WaitStatus::Signaled(SIGABRT, true), WaitStatus::Unknown()}) {
    InstanceRecord record;
    record.last_exit = status;
    const absl::StatusOr<InstanceRecord> read = ParseRecord(FormatRecord(record));
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(read->last_exit, status) << status.ToString();
  }
}

std::string WithChecksum(const std::string& body) { return fmt::format("{}checksum {:016x}\n", body, Checksum(body)); }

// What a daemon of version 0.1.0 wrote before it knew of all that is in a record today.
TEST(Record, AnOlderOneIsRead) {
  const absl::StatusOr<InstanceRecord> record =
      ParseRecord(WithChecksum("supervisord-record 1\nboot_id 3f9b6c1e\nstopped_by_request 0\npid 4711\n"
                               "start_ticks 99\nready 1\nattempts 2\nrestart_count 7\n"
                               "started_unix_ms 1790000000123\n"));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->pid, 4711);
  EXPECT_EQ(record->boot, (BootIdentity{.boot_id = "3f9b6c1e", .pid_namespace = 0, .init_start_ticks = 0}));
  EXPECT_EQ(record->restart_count, 7);
  EXPECT_EQ(record->spawn, 0u);
  EXPECT_FALSE(record->last_exit.has_value());
  EXPECT_TRUE(record->untold.empty());
}

TEST(Record, ANewerOneIsReadAsFarAsItIsUnderstood) {
  const absl::StatusOr<InstanceRecord> record = ParseRecord(
      WithChecksum("supervisord-record 2\nboot_id b\npid 4711\nmood cheerful\nlast_exit exited 3\nuntold\nuntold x\n"
                   "last_word\n"));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->pid, 4711);
  EXPECT_EQ(record->last_exit, WaitStatus::Exited(3));
  EXPECT_TRUE(record->untold.empty());
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
