#pragma once

#include <memory>

#include "daemon/loop/loop.h"
#include "daemon/notify/notifier.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

// The notifier of a daemon. Commands are run by `loop`, the daemon's own, as every process is; what becomes of a
// channel is told to the supervisor that `supervisor` points to by then, there too.
std::unique_ptr<Notifier> MakeNotifier(Loop& loop, const Config& config, const std::unique_ptr<Supervisor>& supervisor);

}  // namespace supervisor
