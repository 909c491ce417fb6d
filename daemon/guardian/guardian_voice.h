#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace supervisor {

// What the guardian has to say. It allocates nothing, so a line has a fixed size; more is cut off.
class Line {
 public:
  Line& operator<<(const char* text);
  Line& operator<<(int64_t number);
  // "was killed by SIGKILL", "exited with code 3", "could not be forked". `status`: of wait(2), or
  // DaemonEnd::kNotForked.
  Line& AddEnd(int status);

  const char* text() const { return text_.data(); }
  size_t size() const { return size_; }

 private:
  std::array<char, 1024> text_{};  // ends with a NUL
  size_t size_ = 0;
};

// "supervisord: guardian: LINE", to stderr. Waits for nobody: where stderr takes nothing at the moment it is dropped.
void Say(const Line& line);

}  // namespace supervisor
