#include <fmt/format.h>

#include "ctl/commands/commands.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"
#include "ctl/render/utf8.h"

namespace supervisor {

ExitCode RunExplain(const Invocation& invocation, Client& client, Output& output) {
  v1::ExplainRequest request;
  request.set_target(invocation.targets.front());
  v1::ExplainResponse response;
  if (const auto failure = client.Read(&Client::Stub::Explain, request, &response, "explain")) {
    return output.Fail(*failure);
  }
  if (!response.notice().empty()) {
    output.Message(fmt::format("explain: {}", EscapeForTerminal(response.notice())));
  }
  if (output.json()) {
    output.PrintJson(ExplainJson(response));
  } else {
    output.Print(ExplainText(response, output.color()));
  }
  return ExitCode::kDone;
}

}  // namespace supervisor
