#include "daemon/store/metric_span.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'795'000'000);

MetricValues Cpu(double value) {
  MetricValues values;
  values[0] = value;
  return values;
}

TEST(SpanBuilder, FewSamplesStayAsTheyAre) {
  SpanBuilder builder(kStart, kStart + absl::Hours(1), 10);
  MetricValues usage;
  usage[static_cast<size_t>(Metric::kProcesses)] = 3;
  builder.Add(kStart + absl::Seconds(10), Cpu(5), "healthy");
  builder.Add(kStart, Cpu(1), "unknown");
  builder.Add(kStart + absl::Seconds(10), usage, "");  // of the same moment, from the other table
  builder.Add(kStart - absl::Seconds(1), Cpu(1000), "");
  const MetricSpan span = builder.Finish();
  ASSERT_EQ(span.points.size(), 2u);
  EXPECT_EQ(span.point_width, absl::ZeroDuration());
  EXPECT_EQ(span.points[0].timestamp, kStart);
  EXPECT_EQ(span.points[1].values[0], 5);
  EXPECT_EQ(span.points[1].values[static_cast<size_t>(Metric::kProcesses)], 3);
  EXPECT_EQ(span.points[1].health_status, "healthy");
  EXPECT_FALSE(span.points[0].values[1].has_value());
  EXPECT_EQ(span.summaries[1].samples, 0u);
}

TEST(SpanBuilder, ManyBecomeMeansAndSummariesAreOfAll) {
  SpanBuilder builder(kStart, kStart + absl::Seconds(1000), 10);
  for (int i = 999; i >= 0; --i) {  // newest first, as they are read
    builder.Add(kStart + absl::Seconds(i), Cpu(i), i == 555 ? "unhealthy" : "healthy");
  }
  const MetricSpan span = builder.Finish();
  ASSERT_EQ(span.points.size(), 10u);
  EXPECT_NEAR(absl::ToDoubleSeconds(span.point_width), 100, 0.01);
  EXPECT_NEAR(*span.points[0].values[0], 49.5, 1);
  EXPECT_NEAR(*span.points[9].values[0], 949.5, 1);
  EXPECT_LT(span.points[0].timestamp, span.points[1].timestamp);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(span.points[i].health_status, i == 5 ? "unhealthy" : "healthy");
  }
  EXPECT_EQ(span.summaries[0].samples, 1000u);
  EXPECT_EQ(span.summaries[0].min, 0);
  EXPECT_EQ(span.summaries[0].max, 999);
  EXPECT_NEAR(span.summaries[0].mean, 499.5, 0.001);
  EXPECT_EQ(span.summaries[0].p95, 949);
}

TEST(SpanBuilder, OneSampleIsItsOwnSummary) {
  SpanBuilder builder(kStart, kStart, 0);
  builder.Add(kStart, Cpu(7), "");
  const MetricSpan span = builder.Finish();
  ASSERT_EQ(span.points.size(), 1u);
  EXPECT_EQ(span.summaries[0].p95, 7);
}

}  // namespace
}  // namespace supervisor
