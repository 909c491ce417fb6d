#include "ctl/commands/commands.h"
#include "ctl/commands/verdict.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

namespace supervisor {

ExitCode RunStatus(const Invocation& invocation, Client& client, Output& output) {
  v1::StatusRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  v1::StatusResponse response;
  if (const auto failure = client.Read(&Client::Stub::Status, request, &response, "status")) {
    return output.Fail(*failure);
  }
  if (output.json()) {
    output.PrintJson(StatusJson(response));
  } else {
    output.Print(StatusText(response.services(), output.color(), "", Output::width()));
  }
  return StatusVerdict(response, !invocation.targets.empty());
}

}  // namespace supervisor
