#include "daemon/service/recorded_health.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace supervisor {
namespace {

template <typename Number>
void TakeNumber(std::string_view value, Number& number) {
  std::from_chars(value.data(), value.data() + value.size(), number);
}

}  // namespace

RecordedHealth RecordHealth(bool running, const VerdictState& verdict) {
  if (!running || (verdict.health == Health::kStarting && verdict.consecutive_failures == 0)) {
    return {};  // nothing was found yet: one write less a start
  }
  return {.health = HealthName(verdict.health),
          .consecutive_failures = verdict.consecutive_failures,
          .consecutive_successes = verdict.health == Health::kUnhealthy ? verdict.consecutive_successes : 0,
          .succeeded_once = verdict.succeeded_once,
          .checks = verdict.checks,
          .successes = verdict.successes};
}

VerdictState VerdictOf(const RecordedHealth& recorded, MonoTime started) {
  const std::optional<Health> health = ParseHealth(recorded.health);
  if (!health) {
    return VerdictAtStart(started);
  }
  return {.health = *health,
          .started = started,
          .consecutive_failures = recorded.consecutive_failures,
          .consecutive_successes = recorded.consecutive_successes,
          .succeeded_once = recorded.succeeded_once,
          .checks = recorded.checks,
          .successes = recorded.successes};
}

std::string FormatRecordedHealth(const RecordedHealth& recorded) {
  if (recorded.health.empty()) {
    return "";
  }
  return fmt::format(
      "health {}\nconsecutive_failures {}\nconsecutive_successes {}\nsucceeded_once {:d}\nchecks {}\nsuccesses {}\n",
      recorded.health, recorded.consecutive_failures, recorded.consecutive_successes, recorded.succeeded_once,
      recorded.checks, recorded.successes);
}

void TakeRecordedHealth(std::string_view key, std::string_view value, RecordedHealth& recorded) {
  if (key == "health") {
    recorded.health = value;
  } else if (key == "consecutive_failures") {
    TakeNumber(value, recorded.consecutive_failures);
  } else if (key == "consecutive_successes") {
    TakeNumber(value, recorded.consecutive_successes);
  } else if (key == "succeeded_once") {
    recorded.succeeded_once = value == "1";
  } else if (key == "checks") {
    TakeNumber(value, recorded.checks);
  } else if (key == "successes") {
    TakeNumber(value, recorded.successes);
  }
}

}  // namespace supervisor
