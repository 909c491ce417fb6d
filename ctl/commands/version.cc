#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include "absl/time/time.h"
#include "common/clock.h"
#include "ctl/commands/commands.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

namespace supervisor {

ExitCode RunVersion(const Invocation& /*invocation*/, Client& client, Output& output) {
  v1::VersionResponse response;
  const auto failure = client.Read(&Client::Stub::Version, v1::VersionRequest(), &response, "version");
  const v1::VersionResponse* daemon = failure ? nullptr : &response;
  if (output.json()) {
    output.PrintJson(VersionJson(grpc::Version(), daemon));
  } else {
    output.Print(VersionText(grpc::Version(), daemon, absl::ToUnixMillis(WallNow())));
  }
  return failure ? output.FailStream(*failure) : ExitCode::kDone;
}

}  // namespace supervisor
