#pragma once

#include "ctl/exit_code.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// What an answer means for the exit code; pure.

// kNotRunning when a service that was named, or with none named an enabled one, is neither running nor exited.
ExitCode StatusVerdict(const v1::StatusResponse& response, bool any_named);
// kNotRunning when one is unhealthy.
ExitCode HealthVerdict(const v1::HealthResponse& response);
// kFailed when one failed, else kTimedOut when one is not there yet.
ExitCode ActionVerdict(const google::protobuf::RepeatedPtrField<v1::ActionResult>& results);
// kFailed when one was not delivered, or there is none.
ExitCode ChannelTestsVerdict(const v1::TestNotificationsResponse& response);
// kUsage when the configuration has errors.
ExitCode ReloadVerdict(const v1::ReloadResponse& response);

}  // namespace supervisor
