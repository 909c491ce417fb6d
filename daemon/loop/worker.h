#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace supervisor {

// One thread that does, in order, what may block: small files, name lookups. The thread begins with the first work.
class Worker {
 public:
  Worker() = default;
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Does what is queued, then ends the thread; it does not begin again. Done by the destructor otherwise.
  void Finish();

  // Any thread.
  void Post(std::function<void()> work);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::thread thread_;
  bool stopping_ = false;
};

}  // namespace supervisor
