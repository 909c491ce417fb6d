#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "daemon/health/verdict.h"

namespace supervisor {

// What an instance's record says of its health checks: see VerdictState.
struct RecordedHealth {
  std::string health = {};  // "healthy"; empty: none has ended yet
  int consecutive_failures = 0;
  int consecutive_successes = 0;  // of one that is unhealthy
  bool succeeded_once = false;
  // These two of when something else was written: they change with every check, which is no reason to write.
  int64_t checks = 0;
  int64_t successes = 0;
  bool operator==(const RecordedHealth&) const = default;
};

// Pure; any thread. `running` whether checks are made at all.
RecordedHealth RecordHealth(bool running, const VerdictState& verdict);
// `started`: of the process, so that its start period is not begun anew.
VerdictState VerdictOf(const RecordedHealth& recorded, MonoTime started);

// "key value" lines; none where no check has ended yet.
std::string FormatRecordedHealth(const RecordedHealth& recorded);
// One of them; what is no key of it is skipped.
void TakeRecordedHealth(std::string_view key, std::string_view value, RecordedHealth& recorded);

}  // namespace supervisor
