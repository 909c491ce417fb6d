#pragma once

#include <string>
#include <string_view>

#include "ctl/render/json_writer.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// The daemon's answers as JSON: the shapes that the contract fixes (status, events, health, summary, reload) and, in
// the same manner, the others. Each returns one object on one line, without the newline.
std::string StatusJson(const v1::StatusResponse& response);
std::string ActionJson(const google::protobuf::RepeatedPtrField<v1::ActionResult>& results);
std::string HealthJson(const v1::HealthResponse& response);
std::string EventsJson(const google::protobuf::RepeatedPtrField<v1::Event>& events);
std::string EventJson(const v1::Event& event);  // one line of a stream
std::string SummaryJson(const v1::SummaryResponse& response);
std::string ExplainJson(const v1::ExplainResponse& response);
std::string ReloadJson(const v1::ReloadResponse& response);
std::string MetricsJson(const v1::MetricsResponse& response);
std::string AlertsJson(const v1::AlertsResponse& response);
std::string ChannelTestsJson(const v1::TestNotificationsResponse& response);
std::string UpgradeJson(const v1::UpgradeResponse& response);
// `daemon` null: it was not reached.
std::string VersionJson(std::string_view client_grpc_version, const v1::VersionResponse* daemon);
// {"error":{"code","message"}}
std::string ErrorJson(std::string_view code, std::string_view message);

// {"service_id","stream","line","timestamp"}; `line` without its newline.
void WriteLogLine(JsonWriter& json, const v1::LogChunk& origin, std::string_view line);

}  // namespace supervisor
