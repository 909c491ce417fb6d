#include <fmt/format.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/diag_log.h"
#include "common/time_format.h"
#include "daemon/rpc/supervisor_service.h"
#include "daemon/rpc/wire.h"

namespace supervisor {
namespace {

std::string_view TypeName(ChannelType type) {
  switch (type) {
    case ChannelType::kWebhook:
      return "webhook";
    case ChannelType::kSlack:
      return "slack";
    case ChannelType::kEmail:
      return "email";
    case ChannelType::kCommand:
      return "command";
  }
  return "";
}

Alert TestAlert(const std::string& actor) {
  Alert alert;
  alert.service_id = "supervisor";
  alert.rule = "test";
  alert.severity = Severity::kInfo;
  alert.message = fmt::format("a test of this channel, asked for by {}; nothing has happened", actor);
  alert.actor = actor;
  alert.raised = WallNow();
  return alert;
}

void Fill(const Notifier::Tested& tested, v1::ChannelTest* out) {
  std::string message(tested.status.message());
  if (tested.status.ok()) {
    message = fmt::format("delivered in {}", FormatSpan(tested.took));
    message += tested.refused.empty() ? "" : fmt::format(", but the server refuses {}", tested.refused);
  }
  out->set_channel(wire::Utf8(tested.label));
  out->set_type(std::string(TypeName(tested.type)));
  out->set_delivered(tested.status.ok() && tested.refused.empty());
  out->set_message(wire::Utf8(message));
  out->set_response_time_ms(absl::ToDoubleMilliseconds(tested.took));
}

}  // namespace

// The answer comes when the slowest channel is done. A daemon that ends does not wait for it: then EndStreams answers,
// and what comes later finds the call answered and touches nothing of it.
grpc::ServerUnaryReactor* SupervisorService::TestNotifications(grpc::CallbackServerContext* call,
                                                               const v1::TestNotificationsRequest* request,
                                                               v1::TestNotificationsResponse* response) {
  static_cast<void>(request);
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const absl::StatusOr<Cause> cause = Authorize(call, "");
  if (!cause.ok()) {
    reactor->Finish(wire::ToGrpc(cause.status()));
    return reactor;
  }
  const auto answered = std::make_shared<std::atomic<bool>>(false);
  const grpc::Status ending(grpc::StatusCode::UNAVAILABLE, "the daemon is stopping");
  const bool goes_on = streams_.Add(answered.get(), [answered, reactor, ending] {
    if (!answered->exchange(true)) {
      reactor->Finish(ending);
    }
  });
  if (!goes_on) {
    reactor->Finish(ending);
    return reactor;
  }
  LogInfo("a test notification goes through each channel", {{"actor", cause->actor}});
  context_.notifier.Test(TestAlert(cause->actor),
                         [this, answered, reactor, response](const std::vector<Notifier::Tested>& results) {
                           if (answered->exchange(true)) {
                             return;
                           }
                           for (const Notifier::Tested& tested : results) {
                             Fill(tested, response->add_channels());
                           }
                           streams_.Remove(answered.get());
                           reactor->Finish(grpc::Status::OK);
                         });
  return reactor;
}

}  // namespace supervisor
