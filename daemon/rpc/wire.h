#pragma once

#include <grpcpp/support/status.h>

#include <vector>

#include "absl/status/status.h"
#include "daemon/service/reloader.h"
#include "daemon/service/supervisor.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor::wire {

namespace v1 = ::supervisor::v1;

// From our types to the wire's. Loop thread, where they read instances.
void FillStatus(const Instance& instance, const LogPump& logs, absl::Time now, v1::ServiceStatus* out);
void FillHealth(const Instance& instance, size_t history, v1::ServiceHealth* out);
void FillEvent(const EventRow& row, v1::Event* out);
void FillReload(const ReloadResult& result, v1::ReloadResponse* out);
void FillOutcome(const ActionOutcome& outcome, const Supervisor& supervisor, const LogPump& logs,
                 v1::ActionResult* out);
v1::SystemHealth ToWire(SystemHealth health);
v1::HealthState ToWire(Health health);

// absl's and gRPC's codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status);

// What is not UTF-8 replaced by U+FFFD: a service or a caller may say anything, and protobuf refuses a whole message
// for one bad string.
std::string Utf8(const std::string& text);

int64_t UnixMillis(absl::Time time);  // 0 for the infinite ones

}  // namespace supervisor::wire
