#include "daemon/startup/hang_watch.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "common/diag_log.h"

namespace supervisor {

std::unique_ptr<LoopWatchdog> WatchForHang(pid_t guardian) {
  return std::make_unique<LoopWatchdog>(LoopWatchdog::Observer{
      .on_slow =
          [](const std::string& what) {
            LogWarning("the daemon is held up", {{"by", what}});
          },
      .on_hung =
          [guardian](const std::string& what) {
            if (guardian == 0 || getppid() != guardian) {
              LogError(
                  "the daemon hangs, and has no guardian that would start another: restart it by hand if this lasts",
                  {{"by", what}});
              return;
            }
            LogError("the daemon hangs: it ends itself, and the next one takes over all that runs", {{"by", what}});
            ShutdownDiagLog();
            std::abort();
          }});
}

}  // namespace supervisor
