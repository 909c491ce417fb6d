#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ctl/render/table.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// The daemon's answers as a person reads them: whole lines, each with its newline. Everything that comes from the
// daemon is escaped, so that no log line or name can command the terminal.

Color StateColor(v1::ServiceState state);
Color HealthColor(v1::HealthState health);
Color EventColor(std::string_view event_type);

// A `width` is that of the screen in columns, 0 where there is none: tables leave out what does not fit.

// The table of services; a column "REASON" only when one has something to say.
std::string StatusText(const google::protobuf::RepeatedPtrField<v1::ServiceStatus>& services, bool color,
                       std::string_view indent = "", size_t width = 0);
// A table; `detailed` adds for each service its percentiles and history.
std::string HealthText(const v1::HealthResponse& response, bool detailed, bool color, size_t width = 0);
std::string EventsHeader(bool color);
std::string EventLine(const v1::Event& event, bool color);
std::string SummaryText(const v1::SummaryResponse& response, bool color, size_t width = 0);
// What `top` shows at a time: a head, the services in the order given, and the newest events as far as `lines` of the
// terminal allow (0: all), each line cut to its width.
enum class TopOrder { kCpu, kMemory, kRestarts, kName };
std::string TopText(const v1::SummaryResponse& response, TopOrder order, size_t lines, bool color, size_t width = 0);
std::string ExplainText(const v1::ExplainResponse& response, bool color);
// The plan; its errors are not in it.
std::string ReloadText(const v1::ReloadResponse& response, bool dry_run, bool color);
// The points, one a line.
std::string MetricsText(const v1::MetricsResponse& response, bool color);
// Min, mean, p95, max and the trend of each metric.
std::string MetricsSummaryText(const v1::MetricsResponse& response, bool color);
// Bars of eight heights, from the least to the most of the values, as many columns at most.
std::string Sparkline(const std::vector<double>& values, size_t most_columns);
std::string AlertsText(const v1::AlertsResponse& response, bool color, size_t width = 0);
// What came of a test of the channels, a line each.
std::string ChannelTestsText(const v1::TestNotificationsResponse& response, bool color);
// `now_unix_ms` gives the daemon's age; `daemon` null: it was not reached.
std::string VersionText(std::string_view client_grpc_version, const v1::VersionResponse* daemon, int64_t now_unix_ms);

enum class Action { kStart, kStop, kRestart, kSignal, kShutdown };
// One result in one line, without the newline: "web: started, pid 4711".
std::string ActionLine(Action action, const v1::ActionResult& result);

}  // namespace supervisor
