// Preloaded (LD_PRELOAD, ld.so(8)): the thread that THREAD_FAILURE counts to, from 1 on, cannot be made by a process,
// as where memory or a limit of threads ends just there. Those after it can.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*work)(void*),
                              void* argument) {
  static std::atomic<int> made{0};
  static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  const char* const failing = std::getenv("THREAD_FAILURE");
  if (failing != nullptr && ++made == std::atoi(failing)) {
    return EAGAIN;
  }
  return real(thread, attributes, work, argument);
}
