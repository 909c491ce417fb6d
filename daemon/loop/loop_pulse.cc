#include "daemon/loop/loop_pulse.h"

namespace supervisor {

LoopPulse& ThisThreadsPulse() {
  thread_local LoopPulse pulse;
  return pulse;
}

}  // namespace supervisor
