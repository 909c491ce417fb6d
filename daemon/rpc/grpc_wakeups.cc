#include <grpc/grpc.h>
#include <grpc/support/time.h>

// gRPC 1.51 serves the callback API with a few threads that wait for a completion for at most a second, sleep, and wait
// again (CallbackAlternativeCQ in completion_queue_cc.cc): thousands of wake-ups an hour in a daemon that has
// nothing to do. The linker puts this in their call's place (--wrap, where gRPC is linked statically): they wait until
// there is something, which the queue's shutdown is, too. The linker makes the names.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" {

grpc_event __real_grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved);

grpc_event __wrap_grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved);

grpc_event __wrap_grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved) {
  // Short waits and polls (a deadline in the past) mean what they say.
  const gpr_timespec soon = gpr_time_add(gpr_now(deadline.clock_type), gpr_time_from_millis(900, GPR_TIMESPAN));
  const bool is_idle_wait = deadline.clock_type != GPR_TIMESPAN && gpr_time_cmp(deadline, soon) > 0;
  return __real_grpc_completion_queue_next(queue, is_idle_wait ? gpr_inf_future(GPR_CLOCK_MONOTONIC) : deadline,
                                           reserved);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
