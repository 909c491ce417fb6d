#include "daemon/service/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "common/checksum.h"

namespace supervisor {
namespace {

constexpr std::string_view kHeader = "supervisord-record 1\n";

template <typename Number>
void TakeNumber(std::string_view value, Number& number) {
  std::from_chars(value.data(), value.data() + value.size(), number);
}

void TakeField(std::string_view key, std::string_view value, InstanceRecord& record) {
  if (key == "boot_id") {
    record.boot_id = value;
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
  }
}

}  // namespace

std::string FormatRecord(const InstanceRecord& record) {
  std::string text = fmt::format(
      "{}boot_id {}\nstopped_by_request {:d}\npid {}\nstart_ticks {}\nready {:d}\nattempts {}\nrestart_count {}\n"
      "started_unix_ms {}\nwatchdog_us {}\noom_events {}\noom_kills {}\nrefused_forks {}\n",
      kHeader, record.boot_id, record.stopped_by_request, record.pid, record.start_ticks, record.ready, record.attempts,
      record.restart_count, record.started_unix_ms, record.watchdog_us, record.oom_events, record.oom_kills,
      record.refused_forks);
  text += fmt::format("desired_up {:d}\nrestarting {:d}\nexited {:d}\nfailed {:d}\n", record.desired_up,
                      record.restarting, record.exited, record.failed);
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
