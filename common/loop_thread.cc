#include "common/loop_thread.h"

#ifdef SUPERVISOR_FAIL_POINTS
#include <fmt/format.h>

#include <cstdlib>

#include "common/console.h"

namespace supervisor {
namespace {

thread_local int t_loops = 0;

}  // namespace

OnLoopThread::OnLoopThread() { ++t_loops; }
OnLoopThread::~OnLoopThread() { --t_loops; }

void NotOnLoopThread(const char* what) {
  if (t_loops > 0) {
    PrintError(fmt::format("{} on the thread of a loop, which must not wait\n", what));
    std::abort();
  }
}

}  // namespace supervisor
#endif
