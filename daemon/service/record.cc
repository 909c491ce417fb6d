#include "daemon/service/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/atomic_file.h"
#include "common/checksum.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

constexpr std::string_view kHeader = "supervisord-record 1\n";

template <typename Number>
void TakeNumber(std::string_view value, Number& number) {
  std::from_chars(value.data(), value.data() + value.size(), number);
}

// One line whatever is in it.
std::string Escape(const std::string& text) { return absl::CEscape(text); }

std::string Unescape(std::string_view text) {
  std::string plain;
  return absl::CUnescape(absl::string_view(text.data(), text.size()), &plain) ? plain : std::string();
}

// "exited 3", "signaled 11", "dumped 11", "unknown"
std::string FormatStatus(const WaitStatus& status) {
  if (status.exit_code()) {
    return fmt::format("exited {}", *status.exit_code());
  }
  if (status.signal()) {
    return fmt::format("{} {}", status.core_dumped() ? "dumped" : "signaled", *status.signal());
  }
  return "unknown";
}

WaitStatus ParseStatus(std::string_view text) {
  int number = 0;
  TakeNumber(text.substr(std::min(text.size(), text.find(' ') + 1)), number);
  if (text.starts_with("exited ")) {
    return WaitStatus::Exited(number);
  }
  if (text.starts_with("signaled ") || text.starts_with("dumped ")) {
    return WaitStatus::Signaled(number, text.starts_with("dumped "));
  }
  return WaitStatus::Unknown();
}

// Tab-separated; the escapes leave none in a field.
std::string FormatUntold(const EventRow& row) {
  return fmt::format("{}\t{}\t{}\t{}\t{}", absl::ToUnixMillis(row.timestamp), Escape(row.event_type), Escape(row.actor),
                     Escape(row.message), Escape(row.details));
}

void TakeUntold(std::string_view value, InstanceRecord& record) {
  constexpr size_t kFields = 5;
  std::vector<std::string_view> fields;
  while (fields.size() < kFields) {
    const size_t tab = std::min(value.find('\t'), value.size());
    fields.push_back(value.substr(0, tab));
    value.remove_prefix(std::min(value.size(), tab + 1));
  }
  int64_t unix_ms = 0;
  TakeNumber(fields[0], unix_ms);
  EventRow row;
  row.timestamp = absl::FromUnixMillis(unix_ms);
  row.event_type = Unescape(fields[1]);
  row.actor = Unescape(fields[2]);
  row.message = Unescape(fields[3]);
  row.details = Unescape(fields[4]);
  if (!row.event_type.empty()) {
    record.untold.push_back(std::move(row));
  }
}

void TakeField(std::string_view key, std::string_view value, InstanceRecord& record) {
  if (key == "boot_id") {
    record.boot.boot_id = value;
  } else if (key == "pid_namespace") {
    TakePidNamespace(value, record.boot);
  } else if (key == "stopped_by_request") {
    record.stopped_by_request = value == "1";
  } else if (key == "pid") {
    TakeNumber(value, record.pid);
  } else if (key == "start_ticks") {
    TakeNumber(value, record.start_ticks);
  } else if (key == "ready") {
    record.ready = value == "1";
  } else if (key == "attempts") {
    TakeNumber(value, record.attempts);
  } else if (key == "restart_count") {
    TakeNumber(value, record.restart_count);
  } else if (key == "started_unix_ms") {
    TakeNumber(value, record.started_unix_ms);
  } else if (key == "started_boot_ms") {
    TakeNumber(value, record.started_boot_ms);
  } else if (key == "watchdog_us") {
    TakeNumber(value, record.watchdog_us);
  } else if (key == "desired_up") {
    record.desired_up = value == "1";
  } else if (key == "restarting") {
    record.restarting = value == "1";
  } else if (key == "exited") {
    record.exited = value == "1";
  } else if (key == "failed") {
    record.failed = value == "1";
  } else if (key == "oom_events") {
    TakeNumber(value, record.oom_events);
  } else if (key == "oom_kills") {
    TakeNumber(value, record.oom_kills);
  } else if (key == "refused_forks") {
    TakeNumber(value, record.refused_forks);
  } else if (key == "spawn") {
    TakeNumber(value, record.spawn);
  } else if (key == "last_restart_unix_ms") {
    TakeNumber(value, record.last_restart_unix_ms);
  } else if (key == "last_exit") {
    record.last_exit = ParseStatus(value);
  } else if (key == "exit_untold") {
    record.exit_untold = value == "1";
  } else if (key == "ended_pid") {
    TakeNumber(value, record.ended_pid);
  } else if (key == "failure") {
    record.failure = Unescape(value);
  } else if (key == "reason") {
    record.reason = Unescape(value);
  } else if (key == "backoff_until_ms") {
    TakeNumber(value, record.backoff_until_ms);
  } else if (key == "mark") {
    record.mark = value;
  } else if (key == "owner") {
    TakeNumber(value, record.owner.emplace());
  } else if (key == "environment_file_digest") {
    TakeNumber(value, record.environment_file_digest);
  } else if (key == "process_name") {
    record.process_name = Unescape(value);
  } else if (key == "untold") {
    TakeUntold(value, record);
  } else {
    TakeRecordedHealth(key, value, record.health);
  }
}

}  // namespace

absl::Duration StartSinceBoot(const InstanceRecord& record) {
  return record.started_boot_ms != 0 ? absl::Milliseconds(record.started_boot_ms) : FromClockTicks(record.start_ticks);
}

std::string FormatRecord(const InstanceRecord& record) {
  std::string text = fmt::format(
      "{}boot_id {}\nstopped_by_request {:d}\npid {}\nstart_ticks {}\nready {:d}\nattempts {}\nrestart_count {}\n"
      "started_unix_ms {}\nwatchdog_us {}\noom_events {}\noom_kills {}\nrefused_forks {}\n",
      kHeader, record.boot.boot_id, record.stopped_by_request, record.pid, record.start_ticks, record.ready,
      record.attempts, record.restart_count, record.started_unix_ms, record.watchdog_us, record.oom_events,
      record.oom_kills, record.refused_forks);
  text += fmt::format("desired_up {:d}\nrestarting {:d}\nexited {:d}\nfailed {:d}\n", record.desired_up,
                      record.restarting, record.exited, record.failed);
  text += fmt::format("spawn {}\nlast_restart_unix_ms {}\nexit_untold {:d}\nbackoff_until_ms {}\n", record.spawn,
                      record.last_restart_unix_ms, record.exit_untold, record.backoff_until_ms);
  if (record.boot.pid_namespace != 0) {
    text += fmt::format("pid_namespace {}\n", FormatPidNamespace(record.boot));
  }
  if (record.started_boot_ms != 0) {
    text += fmt::format("started_boot_ms {}\n", record.started_boot_ms);
  }
  if (record.last_exit) {
    text += fmt::format("last_exit {}\n", FormatStatus(*record.last_exit));
  }
  if (record.ended_pid != 0) {
    text += fmt::format("ended_pid {}\n", record.ended_pid);
  }
  if (!record.mark.empty()) {
    text += fmt::format("mark {}\n", record.mark);
  }
  if (record.owner) {
    text += fmt::format("owner {}\n", *record.owner);
  }
  if (!record.failure.empty()) {
    text += fmt::format("failure {}\n", Escape(record.failure));
  }
  if (!record.reason.empty()) {
    text += fmt::format("reason {}\n", Escape(record.reason));
  }
  if (record.environment_file_digest != 0) {
    text += fmt::format("environment_file_digest {}\n", record.environment_file_digest);
  }
  if (!record.process_name.empty()) {
    text += fmt::format("process_name {}\n", Escape(record.process_name));
  }
  for (const EventRow& row : record.untold) {
    text += fmt::format("untold {}\n", FormatUntold(row));
  }
  text += FormatRecordedHealth(record.health);
  // Of a page's size it can be written over the last one. To a reader this is a key that it does not know.
  constexpr size_t kChecksumLine = sizeof("checksum 0123456789abcdef\n") - 1;
  constexpr size_t kLeastPad = sizeof("pad \n") - 1;
  if (text.size() + kLeastPad + kChecksumLine <= kPageSize) {
    text += fmt::format("pad {}\n", std::string(kPageSize - kChecksumLine - kLeastPad - text.size(), '-'));
  }
  text += fmt::format("checksum {:016x}\n", Checksum(text));
  return text;
}

absl::StatusOr<InstanceRecord> ParseRecord(std::string_view text) {
  const size_t last = text.rfind("checksum ");
  if (!text.starts_with("supervisord-record ") || last == std::string_view::npos) {
    return absl::DataLossError("not a record of a running service");
  }
  const std::string_view body = text.substr(0, last);
  if (text.substr(last) != fmt::format("checksum {:016x}\n", Checksum(body))) {
    return absl::DataLossError("the checksum does not match: torn or changed by hand");
  }
  InstanceRecord record;
  for (std::string_view rest = body.substr(body.find('\n') + 1); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const size_t space = line.find(' ');
    if (space != std::string_view::npos) {
      TakeField(line.substr(0, space), line.substr(space + 1), record);
    }
  }
  return record;
}

}  // namespace supervisor
