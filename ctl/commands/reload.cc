#include <fmt/format.h>

#include "ctl/commands/commands.h"
#include "ctl/commands/verdict.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"
#include "ctl/render/utf8.h"

namespace supervisor {

ExitCode RunReload(const Invocation& invocation, Client& client, Output& output) {
  v1::ReloadRequest request;
  request.set_dry_run(invocation.dry_run);
  request.set_reason(invocation.reason);
  v1::ReloadResponse response;
  if (const auto failure = client.Act(&Client::Stub::Reload, request, &response, "reload", absl::InfiniteDuration())) {
    return output.Fail(*failure);
  }
  if (output.json()) {
    output.PrintJson(ReloadJson(response));
  } else {
    output.Print(ReloadText(response, invocation.dry_run, output.color()));
  }
  // Nothing before "FILE:LINE:COLUMN:", so that editors find the place.
  for (const std::string& error : response.errors()) {
    output.Line(EscapeForTerminal(error));
  }
  if (!response.errors().empty()) {
    output.Message(fmt::format("the configuration has {} error{}; nothing was changed", response.errors().size(),
                               response.errors().size() == 1 ? "" : "s"));
  }
  return ReloadVerdict(response);
}

}  // namespace supervisor
