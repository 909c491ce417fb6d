#include <algorithm>
#include <limits>

#include "absl/time/time.h"
#include "common/clock.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/verdict.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

namespace supervisor {
namespace {

constexpr absl::Duration kDefaultSpan = absl::Hours(1);

uint32_t Bounded(uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(count, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

ExitCode RunMetrics(const Invocation& invocation, Client& client, Output& output) {
  v1::MetricsRequest request;
  request.set_target(invocation.targets.front());
  request.set_since_unix_ms(invocation.since_unix_ms != 0 ? invocation.since_unix_ms
                                                          : absl::ToUnixMillis(WallNow() - kDefaultSpan));
  request.set_until_unix_ms(invocation.until_unix_ms);
  request.set_max_points(Bounded(invocation.count.value_or(0)));
  v1::MetricsResponse response;
  if (const auto failure = client.Read(&Client::Stub::Metrics, request, &response, "metrics")) {
    return output.Fail(*failure);
  }
  if (invocation.count == 0) {
    response.clear_points();
  }
  if (output.json()) {
    output.PrintJson(MetricsJson(response));
  } else {
    output.Print(MetricsSummaryText(response, output.color()));
    if (invocation.count.has_value() && !response.points().empty()) {
      output.Print("\n" + MetricsText(response, output.color()));
    }
  }
  return ExitCode::kDone;
}

namespace {

ExitCode TestChannels(Client& client, Output& output) {
  // Each channel has a limit of its own, and all are tried at once.
  constexpr absl::Duration kLongest = absl::Seconds(60);
  v1::TestNotificationsResponse response;
  if (const auto failure = client.Act(&Client::Stub::TestNotifications, v1::TestNotificationsRequest(), &response,
                                      "alerts --test", kLongest)) {
    return output.Fail(*failure);
  }
  if (output.json()) {
    output.PrintJson(ChannelTestsJson(response));
  } else {
    output.Print(ChannelTestsText(response, output.color()));
  }
  if (response.channels().empty()) {
    output.Message("no channel is configured and enabled: nobody is told of alerts (notifications.channels)");
  }
  return ChannelTestsVerdict(response);
}

}  // namespace

ExitCode RunAlerts(const Invocation& invocation, Client& client, Output& output) {
  if (invocation.test) {
    return TestChannels(client, output);
  }
  v1::AlertsRequest request;
  request.set_include_resolved(invocation.all);
  request.set_limit(Bounded(invocation.count.value_or(0)));
  v1::AlertsResponse response;
  if (const auto failure = client.Read(&Client::Stub::Alerts, request, &response, "alerts")) {
    return output.Fail(*failure);
  }
  const bool wants_none = invocation.count == 0;
  if (wants_none) {
    response.clear_alerts();
  }
  if (output.json()) {
    output.PrintJson(AlertsJson(response));
  } else if (!wants_none) {
    output.Print(AlertsText(response, output.color(), Output::width()));
  }
  return ExitCode::kDone;
}

}  // namespace supervisor
