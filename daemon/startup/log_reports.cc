#include "daemon/startup/log_reports.h"

#include <fmt/format.h>

#include <string>

#include "common/diag_log.h"

namespace supervisor {

std::unique_ptr<LogPump> MakeLogPump(Loop& loop, const std::unique_ptr<Supervisor>& supervisor, HeldDescriptors& held) {
  const auto record = [&loop, &supervisor](const std::string& stream, const std::string& type,
                                           const std::string& message) {
    loop.Post([&supervisor, stream, type, message] {
      if (supervisor != nullptr) {
        supervisor->RecordLogEvent(stream, type, message);
      }
    });
  };
  return std::make_unique<LogPump>(
      [record](const std::string& stream, const std::string& error, const LogStreamStats& stats) {
        const std::string dropped = std::to_string(stats.dropped_bytes);
        if (error.empty()) {
          LogInfo("output is captured again", {{"stream", stream}, {"dropped_bytes", dropped}});
          record(stream, "alert_resolved",
                 stats.dropped_bytes == 0
                     ? "its output is captured again; nothing was lost"
                     : fmt::format("its output is captured again; {} bytes were dropped since supervisord began to "
                                   "capture it",
                                   dropped));
        } else {
          LogError("output can't be captured", {{"stream", stream}, {"error", error}, {"dropped_bytes", dropped}});
          record(stream, "alert_raised", fmt::format("its output can't be captured: {}", error));
        }
      },
      [&held](const std::string& fifo, int fd) {
        if (fd < 0) {
          held.Forget(fifo);
        } else if (const absl::Status status = held.Keep(fifo, fd); !status.ok()) {
          LogWarning("what a service writes last is lost if it ends while there is no daemon",
                     {{"fifo", fifo}, {"error", std::string(status.message())}});
        }
      },
      [record](const std::string& stream, const std::string& file) {
        LogWarning("log file was deleted, renamed or replaced; made anew", {{"stream", stream}, {"file", file}});
        record(stream, "alert_raised",
               fmt::format("its log file {} was deleted, renamed or replaced by another program", file));
        record(stream, "alert_resolved", fmt::format("its log file {} was made anew", file));
      },
      [&held](const std::string& fifo) { return held.TakeNamelessFifo(fifo); });
}

}  // namespace supervisor
