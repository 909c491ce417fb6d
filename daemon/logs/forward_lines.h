#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace supervisor {

// Makes lines of the pieces of one log, for a place that takes whole lines. A line that is longer than `longest` is
// given in pieces of that length, each as a line of its own, so a service that never ends its line costs no memory.
// Pure.
class ForwardLines {
 public:
  explicit ForwardLines(size_t longest) : longest_(longest) {}

  // `give` gets each line without its end, and answers whether it was taken. Stops at the first that was not; returns
  // how many bytes of `data` are done with: given, or kept as the beginning of a line.
  size_t Feed(std::string_view data, const std::function<bool(std::string_view line)>& give);

  // The beginning of a line whose end has not come.
  const std::string& partial() const { return partial_; }
  void Clear() { partial_.clear(); }

 private:
  size_t longest_;
  std::string partial_;
};

}  // namespace supervisor
