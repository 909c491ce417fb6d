#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// Puts the lines of interleaved logs together again: a chunk may begin and end within a line, and the pieces of two
// services' lines must not mix. Not thread-safe.
class LogLines {
 public:
  // `line` without its newline. `origin` says whose it is; its data is not the line.
  using Sink = std::function<void(const v1::LogChunk& origin, std::string_view line)>;

  // What is longer is handed over in pieces: a service that never ends its line must not eat our memory.
  static constexpr size_t kLongestLine = size_t{1} << 20U;

  explicit LogLines(Sink sink);

  void Feed(const v1::LogChunk& chunk);
  // The ends without a newline, when nothing more will come.
  void Flush();

 private:
  struct Pending {
    v1::LogChunk origin;
    std::string text;
  };
  Sink sink_;
  std::map<std::pair<std::string, int>, Pending> pending_;  // by instance and stream
};

}  // namespace supervisor
