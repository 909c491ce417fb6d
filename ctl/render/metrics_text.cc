#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/time_format.h"
#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

using Align = Table::Align;
constexpr size_t kTrendColumns = 40;

std::string BytesText(double bytes) {
  if (bytes < 1024) {
    return fmt::format("{:.0f} B/s", bytes);
  }
  return bytes < 1024 * 1024 ? fmt::format("{:.1f} kB/s", bytes / 1024)
                             : fmt::format("{:.1f} MB/s", bytes / (1024 * 1024));
}

std::string CountText(double count) {
  return count == std::floor(count) ? fmt::format("{:.0f}", count) : fmt::format("{:.1f}", count);
}

struct Column {
  std::string_view name;  // as in MetricSummary
  std::string_view title;
  std::string (*text)(double);
  bool (v1::MetricPoint::*has)() const;
  double (v1::MetricPoint::*value)() const;
};

const std::array<Column, 7>& Columns() {
  using Point = v1::MetricPoint;
  static const std::array<Column, 7> columns = {{
      {"cpu_percent", "CPU", CpuText, &Point::has_cpu_percent, &Point::cpu_percent},
      {"memory_mb", "MEMORY", MemoryText, &Point::has_memory_mb, &Point::memory_mb},
      {"response_time_ms", "RESPONSE", MillisecondsText, &Point::has_response_time_ms, &Point::response_time_ms},
      {"processes", "PROCESSES", CountText, &Point::has_processes, &Point::processes},
      {"descriptors", "DESCRIPTORS", CountText, &Point::has_descriptors, &Point::descriptors},
      {"read_bytes_per_second", "READ", BytesText, &Point::has_read_bytes_per_second, &Point::read_bytes_per_second},
      {"written_bytes_per_second", "WRITTEN", BytesText, &Point::has_written_bytes_per_second,
       &Point::written_bytes_per_second},
  }};
  return columns;
}

}  // namespace

std::string Sparkline(const std::vector<double>& values, size_t most_columns) {
  constexpr std::array<std::string_view, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (values.empty() || most_columns == 0) {
    return "";
  }
  const size_t columns = std::min(values.size(), most_columns);
  std::vector<double> means;
  for (size_t i = 0; i < columns; ++i) {
    const size_t from = i * values.size() / columns;
    const size_t to = (i + 1) * values.size() / columns;
    double sum = 0;
    for (size_t k = from; k < to; ++k) {
      sum += values[k];
    }
    means.push_back(sum / static_cast<double>(to - from));
  }
  const auto [least, most] = std::ranges::minmax_element(means);
  const double low = *least;
  const double range = *most - low;
  std::string line;
  for (const double mean : means) {
    const double height = range > 0 ? (mean - low) / range * (kBars.size() - 1) : 0;
    line += kBars[static_cast<size_t>(std::lround(height))];
  }
  return line;
}

std::string MetricsSummaryText(const v1::MetricsResponse& response, bool color) {
  if (response.points().empty()) {
    return fmt::format("No metrics of {} in this span.\n", EscapeForTerminal(response.id()));
  }
  const int64_t first = response.points(0).timestamp_unix_ms();
  const int64_t last = response.points(response.points_size() - 1).timestamp_unix_ms();
  std::string out = fmt::format(
      "{}, {} to {} UTC{}\n", Colored(EscapeForTerminal(response.id()), Color::kBold, color), TimeText(first),
      TimeText(last),
      response.point_seconds() > 0 ? fmt::format(", a point is {}", FormatSpan(absl::Seconds(response.point_seconds())))
                                   : "");
  Table table({{.header = "METRIC"},
               {.header = "MIN", .align = Align::kRight},
               {.header = "MEAN", .align = Align::kRight},
               {.header = "P95", .align = Align::kRight},
               {.header = "MAX", .align = Align::kRight},
               {.header = "SAMPLES", .align = Align::kRight},
               {.header = "TREND"}});
  for (const Column& column : Columns()) {
    std::vector<double> values;
    for (const v1::MetricPoint& point : response.points()) {
      if ((point.*column.has)()) {
        values.push_back((point.*column.value)());
      }
    }
    for (const v1::MetricSummary& summary : response.summaries()) {
      if (summary.name() == column.name) {
        table.AddRow({std::string(column.title), column.text(summary.min()), column.text(summary.mean()),
                      column.text(summary.p95()), column.text(summary.max()), fmt::format_int(summary.samples()).str(),
                      Sparkline(values, kTrendColumns)});
      }
    }
  }
  return out + table.Render(color);
}

std::string MetricsText(const v1::MetricsResponse& response, bool color) {
  if (response.points().empty()) {
    return fmt::format("No metrics of {} in this span.\n", EscapeForTerminal(response.id()));
  }
  std::vector<Table::Column> headers = {{.header = "TIME (UTC)"}, {.header = "HEALTH"}};
  std::vector<const Column*> shown;
  for (const Column& column : Columns()) {
    if (std::ranges::any_of(response.points(), [&](const v1::MetricPoint& point) { return (point.*column.has)(); })) {
      headers.push_back({.header = column.title, .align = Align::kRight});
      shown.push_back(&column);
    }
  }
  Table table(headers);
  for (const v1::MetricPoint& point : response.points()) {
    std::vector<Table::Cell> row = {TimeText(point.timestamp_unix_ms()),
                                    point.health_status().empty() ? "-" : point.health_status()};
    for (const Column* column : shown) {
      row.emplace_back((point.*column->has)() ? column->text((point.*column->value)()) : "-");
    }
    table.AddRow(std::move(row));
  }
  return table.Render(color);
}

}  // namespace supervisor
