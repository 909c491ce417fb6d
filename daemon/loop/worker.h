#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace supervisor {

// One thread that does, in order, what may block: small files, name lookups. The thread begins with the first work.
class Worker {
 public:
  // When posted work begins: at once, or when Wake is called, so that all that one turn of a loop posts costs a single
  // wake-up of the thread.
  enum class Waking { kAtOnce, kWhenTold };

  explicit Worker(Waking waking = Waking::kAtOnce) : waking_(waking) {}
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Does what is queued, then ends the thread; it does not begin again. Done by the destructor otherwise.
  void Finish();
  // Likewise; and what is posted from now on is dropped, so that who posts late may hold the worker, and its work him.
  void Close();

  // Any thread.
  void Post(std::function<void()> work);
  // Any thread. Cheap where nothing was posted.
  void Wake();

 private:
  void Run();

  const Waking waking_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::thread thread_;
  bool stopping_ = false;
  bool closed_ = false;
  std::atomic<bool> posted_ = false;  // since the last Wake
};

}  // namespace supervisor
