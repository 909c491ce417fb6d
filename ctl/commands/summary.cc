#include "ctl/commands/commands.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

namespace supervisor {

ExitCode RunSummary(const Invocation& /*invocation*/, Client& client, Output& output) {
  v1::SummaryResponse response;
  if (const auto failure = client.Read(&Client::Stub::Summary, v1::SummaryRequest(), &response, "summary")) {
    return output.Fail(*failure);
  }
  if (output.json()) {
    output.PrintJson(SummaryJson(response));
  } else {
    output.Print(SummaryText(response, output.color(), Output::width()));
  }
  return ExitCode::kDone;
}

}  // namespace supervisor
