#pragma once

#include <linux/sched.h>
#include <sys/syscall.h>

#include <cstddef>

namespace supervisor {

// The kernel's own interface (syscall(2)), for code that runs between clone and exec, and for launch.cc alone: glibc's
// wrappers write errno, which is in the memory of the thread that cloned, and some lock or signal other threads.

// The child runs in memory that other threads use at the same time: no sanitizer may instrument it.
#define SUPERVISOR_IN_CHILD \
  __attribute__((no_sanitize("address", "thread", "undefined"), optimize("no-stack-protector")))

// A system call that does not touch errno. Returns the kernel's value: a negated error number on failure.
SUPERVISOR_IN_CHILD inline long RawCall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
#if defined(__x86_64__)
  long result = number;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
#else
#error "RawCall: this architecture's system call instruction is missing"
#endif
}

template <typename Pointer>
SUPERVISOR_IN_CHILD inline long AsArgument(const Pointer* pointer) {
  return reinterpret_cast<long>(pointer);
}

// clone3(2), which glibc has no wrapper for: the child runs `function` on the stack in `args`, and ends with it.
// Returns the kernel's value.
inline long RawClone3(clone_args* args, int (*function)(void*), void* argument) {
#if defined(__x86_64__)
  long result = SYS_clone3;
  register int (*r8)(void*) asm("r8") = function;
  register void* r9 asm("r9") = argument;
  asm volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %%r9, %%rdi\n\t"
      "call *%%r8\n\t"
      "hlt\n"
      "1:"
      : "+a"(result)
      : "D"(args), "S"(sizeof(*args)), "r"(r8), "r"(r9)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = SYS_clone3;
  register long x0 asm("x0") = reinterpret_cast<long>(args);
  register long x1 asm("x1") = sizeof(*args);
  register int (*x9)(void*) asm("x9") = function;
  register void* x10 asm("x10") = argument;
  asm volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, x10\n\t"
      "blr x9\n\t"
      "brk 0\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
      : "memory");
  return x0;
#else
#error "RawClone3: this architecture's way is missing"
#endif
}

}  // namespace supervisor
