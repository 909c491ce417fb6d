#include "daemon/service/event_details.h"

#include <nlohmann/json.hpp>

#include "common/signal_names.h"

namespace supervisor {

std::string EventDetails(const RecordEvent& event, int pid, const EndedRun* end) {
  nlohmann::ordered_json details = nlohmann::ordered_json::object();
  if (pid != 0) {
    details["pid"] = pid;
  }
  if (event.exit) {
    if (const auto code = event.exit->exit_code()) {
      details["exit_code"] = *code;
    }
    if (const auto signal = event.exit->signal()) {
      details["exit_signal"] = *signal;
      details["signal"] = SignalName(*signal);
      details["core_dumped"] = event.exit->core_dumped();
    }
  }
  if (event.attempt > 0) {
    details["attempt"] = event.attempt;
  }
  if (event.delay) {
    details["delay_seconds"] = absl::ToDoubleSeconds(*event.delay);
  }
  if (end != nullptr) {
    details["out_of_memory"] = end->out_of_memory;
    details["uptime_seconds"] = absl::ToDoubleSeconds(end->uptime);
    if (end->usage.processes > 0) {
      nlohmann::ordered_json& metrics = details["last_metrics"];
      if (end->usage.cpu_percent) {
        metrics["cpu_percent"] = *end->usage.cpu_percent;
      }
      metrics["memory_mb"] = end->usage.memory_mb;
      metrics["processes"] = end->usage.processes;
      if (end->usage.descriptors) {
        metrics["descriptors"] = *end->usage.descriptors;
      }
    }
  }
  if (!event.cause.reason.empty()) {
    details["reason"] = event.cause.reason;
  }
  // What is not UTF-8 (a --reason can be anything) is replaced rather than thrown at the caller.
  return details.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace supervisor
