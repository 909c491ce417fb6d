#pragma once

namespace supervisor {

// A loop's thread must not wait for a disk: whoever may have to asks here first, and in the builds with fail points
// (debug and sanitizers) the program aborts where that is the case, whatever test it is that comes by. Else nothing is
// left of this.

#ifdef SUPERVISOR_FAIL_POINTS
// For as long as this thread runs a loop. They nest.
class OnLoopThread {
 public:
  OnLoopThread();
  ~OnLoopThread();
  OnLoopThread(const OnLoopThread&) = delete;
  OnLoopThread& operator=(const OnLoopThread&) = delete;
};

// `what` may wait: "SQLite".
void NotOnLoopThread(const char* what);
#else
class OnLoopThread {  // style-ok(type-twice): one of the two is compiled
 public:
  OnLoopThread() {}
};
inline void NotOnLoopThread(const char* /*what*/) {}
#endif

}  // namespace supervisor
