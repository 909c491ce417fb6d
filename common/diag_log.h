#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace supervisor {

// The program's own log (not the services' output): one line an entry, key=value, UTC:
//   2026-11-23 07:28:15.042 level=info msg="started" service=web pid=4711
// Values with spaces, quotes or control characters are quoted and escaped.
//
// Where stderr is the journal (JOURNAL_STREAM names it: sd-daemon(3), systemd.exec(5)), lines there begin with "<6>"
// and the like for the journal to know their level, and bring no time: the journal has its own.
enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  std::string_view key;
  std::string value;
};

// As services' logs: the file becomes <file>.1 when it is full, and so on.
struct DiagLogRotation {
  uint64_t max_bytes = uint64_t{50} << 20;
  int max_files = 10;  // rotated ones kept
};

// Writes to the log file, and to stderr when `to_stderr`. Until it is called entries go to stderr alone.
// An empty file name closes the file. Thread-safe, as is all here. Can be called again: to reopen, or change the level.
// A file that somebody deletes, renames or replaces is made anew within a second of the next entry. Where nobody reads
// what goes to stderr, or to a FIFO, entries are dropped; a FIFO that nobody has open at all is an error.
absl::Status ConfigureDiagLog(const std::string& file, LogLevel level, bool to_stderr,
                              const DiagLogRotation& rotation = {});

// Entries that could not be written (a full disk, a pipe that nobody reads) since the start, not everywhere at least.
uint64_t DiagLogDropped();

void DiagLog(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

inline void LogDebug(std::string_view message, std::initializer_list<LogField> fields = {}) {
  DiagLog(LogLevel::kDebug, message, fields);
}
inline void LogInfo(std::string_view message, std::initializer_list<LogField> fields = {}) {
  DiagLog(LogLevel::kInfo, message, fields);
}
inline void LogWarning(std::string_view message, std::initializer_list<LogField> fields = {}) {
  DiagLog(LogLevel::kWarning, message, fields);
}
inline void LogError(std::string_view message, std::initializer_list<LogField> fields = {}) {
  DiagLog(LogLevel::kError, message, fields);
}

// Stops the writer thread after it has written what is queued, or after some seconds: it may hang in a write. Called
// once, at the end of main.
void ShutdownDiagLog();

}  // namespace supervisor
