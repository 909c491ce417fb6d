#include "daemon/store/metric_span.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace supervisor {
namespace {

MetricSummary Summarize(std::vector<float>& values) {
  MetricSummary summary;
  summary.samples = values.size();
  if (values.empty()) {
    return summary;
  }
  double sum = 0;
  for (const float value : values) {
    sum += static_cast<double>(value);
  }
  summary.mean = sum / static_cast<double>(values.size());
  const auto [least, most] = std::ranges::minmax_element(values);
  summary.min = static_cast<double>(*least);
  summary.max = static_cast<double>(*most);
  const auto rank = static_cast<size_t>(std::ceil(0.95 * static_cast<double>(values.size())));
  const auto p95 = values.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::ranges::nth_element(values, p95);
  summary.p95 = static_cast<double>(*p95);
  return summary;
}

}  // namespace

SpanBuilder::SpanBuilder(absl::Time since, absl::Time until, size_t most_points)
    : since_(since),
      until_(until),
      since_ms_(absl::ToUnixMillis(since)),
      most_points_(std::max<size_t>(most_points, 1)) {}

void SpanBuilder::Gather(Gathered& into, int64_t unix_ms, const MetricValues& values, std::string_view health_status) {
  for (size_t i = 0; i < kMetricCount; ++i) {
    if (values[i]) {
      into.sums[i] += *values[i];
      ++into.counts[i];
    }
  }
  into.unhealthy = into.unhealthy || health_status == "unhealthy";
  if (unix_ms >= into.last && !health_status.empty()) {
    into.health = health_status;
  }
  into.last = std::max(into.last, unix_ms);
}

void SpanBuilder::Add(absl::Time timestamp, const MetricValues& values, std::string_view health_status) {
  if (timestamp < since_ || timestamp > until_) {
    return;
  }
  for (size_t i = 0; i < kMetricCount; ++i) {
    if (values[i]) {
      all_[i].push_back(static_cast<float>(*values[i]));
    }
  }
  const int64_t unix_ms = absl::ToUnixMillis(timestamp);
  Gather(PieceOf(width_ms_ == 0 ? unix_ms : (unix_ms - since_ms_) / width_ms_), unix_ms, values, health_status);
  if (width_ms_ == 0 && gathered_.size() > most_points_) {
    Coarsen();
  }
}

SpanBuilder::Gathered& SpanBuilder::PieceOf(int64_t key) {
  if (last_piece_ == nullptr || key != last_key_) {
    last_piece_ = &gathered_[key];  // a map's elements stay where they are
    last_key_ = key;
  }
  return *last_piece_;
}

void SpanBuilder::Coarsen() {
  last_piece_ = nullptr;
  const int64_t span_ms = std::max<int64_t>((until_ - since_) / absl::Milliseconds(1), 1);
  const auto most = static_cast<int64_t>(most_points_);
  width_ms_ = span_ms / most + 1;
  std::map<int64_t, Gathered> fine = std::exchange(gathered_, {});
  for (const auto& [unix_ms, gathered] : fine) {
    Gathered& into = gathered_[(unix_ms - since_ms_) / width_ms_];
    for (size_t i = 0; i < kMetricCount; ++i) {
      into.sums[i] += gathered.sums[i];
      into.counts[i] += gathered.counts[i];
    }
    into.unhealthy = into.unhealthy || gathered.unhealthy;
    into.health = gathered.health.empty() ? into.health : gathered.health;
    into.last = gathered.last;
  }
}

MetricSpan SpanBuilder::Finish() {
  MetricSpan span;
  span.point_width = absl::Milliseconds(width_ms_);
  span.points.reserve(gathered_.size());
  for (const auto& [key, gathered] : gathered_) {
    MetricPoint point;
    point.timestamp = absl::FromUnixMillis(width_ms_ == 0 ? key : since_ms_ + key * width_ms_ + width_ms_ / 2);
    point.health_status = gathered.unhealthy ? "unhealthy" : gathered.health;
    for (size_t i = 0; i < kMetricCount; ++i) {
      if (gathered.counts[i] > 0) {
        point.values[i] = gathered.sums[i] / gathered.counts[i];
      }
    }
    span.points.push_back(std::move(point));
  }
  for (size_t i = 0; i < kMetricCount; ++i) {
    span.summaries[i] = Summarize(all_[i]);
  }
  return span;
}

}  // namespace supervisor
