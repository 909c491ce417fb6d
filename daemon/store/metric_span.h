#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace supervisor {

// What is measured of a service, in the order of MetricValues.
enum class Metric { kCpu, kMemory, kResponse, kProcesses, kDescriptors, kRead, kWritten };
inline constexpr size_t kMetricCount = 7;
inline constexpr std::array<std::string_view, kMetricCount> kMetricNames = {"cpu_percent",
                                                                            "memory_mb",
                                                                            "response_time_ms",
                                                                            "processes",
                                                                            "descriptors",
                                                                            "read_bytes_per_second",
                                                                            "written_bytes_per_second"};
using MetricValues = std::array<std::optional<double>, kMetricCount>;

struct MetricPoint {
  absl::Time timestamp;  // of the sample, or the middle of what it stands for
  MetricValues values;
  std::string health_status;  // "unhealthy" where anything within was, else the last
};

struct MetricSummary {
  uint64_t samples = 0;
  double min = 0;
  double mean = 0;
  double p95 = 0;  // nearest rank
  double max = 0;
};

// A span of a service's metrics.
struct MetricSpan {
  std::vector<MetricPoint> points;  // oldest first
  absl::Duration point_width;       // zero: the points are the samples
  std::array<MetricSummary, kMetricCount> summaries;
};

// Samples in, at most so many points out: as long as they are few they stay as they are, else each becomes part of the
// mean of its piece of the span. Summaries are of all samples. Pure; holds four bytes a value.
class SpanBuilder {
 public:
  SpanBuilder(absl::Time since, absl::Time until, size_t most_points);

  // In any order of time; one outside the span is left out. Samples of the same moment make one point.
  void Add(absl::Time timestamp, const MetricValues& values, std::string_view health_status);
  MetricSpan Finish();

 private:
  struct Gathered {
    std::array<double, kMetricCount> sums{};
    std::array<uint32_t, kMetricCount> counts{};
    int64_t last = INT64_MIN;  // milliseconds since 1970
    std::string health;
    bool unhealthy = false;
  };
  static void Gather(Gathered& into, int64_t unix_ms, const MetricValues& values, std::string_view health_status);
  void Coarsen();
  Gathered& PieceOf(int64_t key);

  // Times are milliseconds since 1970, as in the table: arithmetic on absl::Time is what a long span would spend its
  // time with.
  absl::Time since_;
  absl::Time until_;
  int64_t since_ms_;
  size_t most_points_;
  int64_t width_ms_ = 0;                  // 0: not coarsened yet
  std::map<int64_t, Gathered> gathered_;  // by milliseconds since 1970, or by number of the piece
  Gathered* last_piece_ = nullptr;        // samples come in order, so the next is mostly of the same
  int64_t last_key_ = 0;
  std::array<std::vector<float>, kMetricCount> all_;
};

}  // namespace supervisor
