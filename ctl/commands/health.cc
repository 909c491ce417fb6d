#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "ctl/commands/commands.h"
#include "ctl/commands/verdict.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"
#include "ctl/render/utf8.h"

namespace supervisor {

ExitCode RunHealth(const Invocation& invocation, Client& client, Output& output) {
  v1::HealthRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  if (invocation.count) {
    // 0 would ask the daemon for its default.
    const uint64_t most = std::numeric_limits<uint32_t>::max();
    request.set_history(static_cast<uint32_t>(std::clamp<uint64_t>(*invocation.count, 1, most)));
  }
  v1::HealthResponse response;
  if (const auto failure = client.Read(&Client::Stub::Health, request, &response, "health")) {
    return output.Fail(*failure);
  }
  if (!response.notice().empty()) {
    output.Message(fmt::format("health: {}", EscapeForTerminal(response.notice())));
  }
  if (invocation.count == 0) {
    for (v1::ServiceHealth& service : *response.mutable_services()) {
      service.clear_history();
    }
  }
  if (output.json()) {
    output.PrintJson(HealthJson(response));
  } else {
    const bool detailed = invocation.count ? *invocation.count > 0 : !invocation.targets.empty();
    output.Print(HealthText(response, detailed, output.color(), Output::width()));
  }
  return HealthVerdict(response);
}

}  // namespace supervisor
