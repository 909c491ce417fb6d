#pragma once

namespace supervisor::limits {

// Bounds beyond which a number in a configuration is a slip of the finger rather than a wish. Seconds and megabytes.
inline constexpr double kShortestInterval = 0.001;
inline constexpr double kShortestRepeat = 0.1;
inline constexpr int kMostAttempts = 1'000'000;
inline constexpr int kLargestPort = 65535;
inline constexpr double kMostCpuPercent = 1'000'000;     // 100 a processor
inline constexpr double kMostMegabytes = 1'000'000'000;  // a petabyte: still exact in bytes
inline constexpr int kMostInstances = 10'000;
inline constexpr int kPriorityBound = 1'000'000;
inline constexpr int kMostProcesses = 4'194'304;      // the kernel's PID_MAX_LIMIT
inline constexpr int kMostOpenFiles = 1'073'741'816;  // the kernel's highest fs.nr_open
inline constexpr int kMostLogFiles = 10'000;
inline constexpr double kMostBackoff = 1000;

}  // namespace supervisor::limits
