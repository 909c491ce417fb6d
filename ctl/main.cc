#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <cstdlib>
#include <string>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/process_start.h"
#include "ctl/client.h"
#include "ctl/command_line.h"
#include "ctl/commands/commands.h"
#include "ctl/output.h"

namespace supervisor {
namespace {

// stderr is for what this program has to say; the libraries' own remarks are wanted by who asks for them alone.
void QuietLibraries() {
  google::protobuf::SetLogHandler(nullptr);
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {  // NOLINT(concurrency-mt-unsafe): before any thread
    gpr_set_log_function([](gpr_log_func_args*) {});
  }
}

[[noreturn]] void Main(const std::vector<std::string>& arguments) {
  auto parsed = ParseCommandLine(arguments, WallNow());
  if (const auto* early = std::get_if<EarlyExit>(&parsed)) {
    Output output(early->json, true);
    if (early->to_stderr) {
      output.Exit(output.Fail({.exit_code = early->exit_code, .code = "invalid_argument", .message = early->text}));
    }
    output.Print(early->text);
    output.Exit(early->exit_code);
  }
  const auto& invocation = std::get<Invocation>(parsed);
  QuietLibraries();
  Output output(invocation.json, invocation.no_color);
  Client client(invocation);
  output.Exit(RunCommand(invocation, client, output));
}

}  // namespace
}  // namespace supervisor

int main(int argc, char** argv) {
  if (!supervisor::PrepareProcess(supervisor::ProgramKind::kClient)) {
    return static_cast<int>(supervisor::ExitCode::kFailed);
  }
  supervisor::UnblockSignals();
  supervisor::Main(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
