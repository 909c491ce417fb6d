#pragma once

#include <functional>
#include <thread>

namespace supervisor {

// A thread with every signal blocked: they belong to the daemon's loop, and a SIGPIPE from within a library must not
// end it. Not joinable where the kernel gives none (EAGAIN).
std::thread StartQuietThread(std::function<void()> work);

}  // namespace supervisor
