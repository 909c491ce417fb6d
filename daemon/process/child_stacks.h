#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <vector>

namespace supervisor {

// Stacks for children. A few are kept: to unmap one while other children run on other processors in the same memory
// makes the kernel interrupt those. One thread, but for Map and Unmap.
class ChildStacks {
 public:
  static constexpr size_t kSize = 65536;

  static ChildStacks& Get() {
    static ChildStacks stacks;
    return stacks;
  }

  // One that is not kept. Null: no memory. Any thread.
  static void* Map() {
    void* stack =
        mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    return stack == MAP_FAILED ? nullptr : stack;
  }
  static void Unmap(void* stack) {
    if (stack != nullptr) {
      munmap(stack, kSize);
    }
  }

  // Null: no memory.
  void* Take() {
    if (!free_.empty()) {
      void* stack = free_.back();
      free_.pop_back();
      ++out_;
      return stack;
    }
    void* stack = Map();
    out_ += stack != nullptr ? 1 : 0;
    return stack;
  }
  void GiveBack(void* stack) {
    if (stack == nullptr) {
      return;
    }
    free_.push_back(stack);
    if (--out_ > 0) {
      return;
    }
    for (; free_.size() > kKept; free_.pop_back()) {
      Unmap(free_.back());
    }
  }

 private:
  static constexpr size_t kKept = 8;  // while none is in use
  std::vector<void*> free_;
  size_t out_ = 0;
};

}  // namespace supervisor
