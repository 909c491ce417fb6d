#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/status/status.h"
#include "common/file_id.h"
#include "common/unique_fd.h"

namespace supervisor {

// Compresses rotated logs on a thread of its own, at the lowest priority; the thread starts with the first job.
// It works on open files alone: names, which rotation changes meanwhile, are the caller's matter.
class Compressor {
 public:
  struct Job {
    UniqueFd input;
    UniqueFd output;                         // empty
    FileId original;                         // of the input; written into the gzip header, see gzip_log.h
    std::function<void(absl::Status)> done;  // on the compressor's thread; not called once this is being destroyed
  };

  Compressor() = default;
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor();  // abandons the job under way

  void Add(Job job);  // one thread

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace supervisor
