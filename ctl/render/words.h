#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// The wire's enumerations and numbers in the contract's words.
std::string_view StateWord(v1::ServiceState state);
std::string_view HealthWord(v1::HealthState health);
std::string_view SystemHealthWord(v1::SystemHealth health);
std::string_view OutcomeWord(v1::ActionResult::Outcome outcome);

// "12.3 MB", "1.4 GB"; "-" for none.
std::string MemoryText(double megabytes);
// "3.4%"
std::string CpuText(double percent);
// "12.4 ms", "1.3 s"
std::string MillisecondsText(double milliseconds);
// FormatSpan of seconds; "-" for none.
std::string UptimeText(double seconds);
// FormatTimestamp; "-" for 0.
std::string TimeText(int64_t unix_ms);
// "exit code 1", "killed by SIGSEGV"; empty when it has not ended yet.
std::string LastExitText(const v1::ServiceStatus& service);

// "memory 64 MB (cgroup), cpu 50% (watched every 10 s)"; empty without limits.
std::string LimitsText(const v1::ServiceStatus& service);

// As it should be: running, or ended as it should. What `status` exits 0 for.
bool IsUpOrFinished(v1::ServiceState state);

}  // namespace supervisor
