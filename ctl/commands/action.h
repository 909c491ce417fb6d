#pragma once

#include "ctl/exit_code.h"
#include "ctl/output.h"
#include "ctl/render/text.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// One line a result: what came about to stdout, what did not to stderr; with --json all of them as one object too.
ExitCode ShowResults(Action action, const google::protobuf::RepeatedPtrField<v1::ActionResult>& results,
                     Output& output);

}  // namespace supervisor
