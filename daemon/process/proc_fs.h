#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace supervisor {

// What /proc tells of processes. Any thread; none of these files makes its reader wait for the process it describes,
// but for EnvironmentValue, which waits while that process maps memory.

// The fields of /proc/PID/stat that checks need (proc(5)).
struct ProcStat {
  pid_t pid = 0;
  char state = '?';  // R, S, D, Z, T, t, X, I
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
  uint64_t cpu_ticks = 0;    // user and system
  uint64_t start_ticks = 0;  // since boot: with the pid it identifies a process for good
  uint64_t rss_pages = 0;
  int exit_status = 0;     // of one that is_dead, as wait(2) has it; 0 too where this process may not know
  bool has_execed = true;  // since it was cloned or forked (PF_FORKNOEXEC of the kernel's sched.h is clear)
  // Where code and stack of its address space begin: other numbers mean another address space, as after execve(2). Zero
  // where this process may not know (ptrace(2), PTRACE_MODE_READ).
  uint64_t code_start = 0;
  uint64_t stack_start = 0;

  bool is_dead() const { return state == 'Z' || state == 'X' || state == 'x'; }
};

// Pure. Nothing for what is no stat line. The name in it may hold spaces and parentheses.
std::optional<ProcStat> ParseProcStat(std::string_view text);

// Nothing when there is no such process.
std::optional<ProcStat> ReadProcStat(pid_t pid);

// The wait status of a zombie that is not ours to reap, which the process of that pid and start time is. Nothing where
// it is none, or where the kernel does not tell us: to whom it shows zero in any case (ptrace(2), PTRACE_MODE_READ).
std::optional<int> ReadZombieStatus(pid_t pid, uint64_t start_ticks);

// The name of its program as ps(1) shows it (/proc/PID/comm), printable; empty where the process is gone.
std::string ProcessName(pid_t pid);
// Whose it is: the real uid, by which kill(2) decides. Nothing where the process is gone or hidden.
std::optional<uid_t> RealUid(pid_t pid);

// A time since boot as start_ticks counts it.
uint64_t ClockTicks(absl::Duration time);
absl::Duration FromClockTicks(uint64_t ticks);
// When that process began. Now, when there is no such process.
absl::Duration StartSinceBoot(pid_t pid);

// Every process that this one can see.
std::vector<ProcStat> ReadAllProcesses();

// `root` (when it exists) and its descendants, zombies included. From /proc/PID/task/TID/children where the kernel has
// that, which costs only as much as the tree is large, else from a look at every process.
std::vector<ProcStat> ReadProcessTree(pid_t root);

// The children of a process, zombies included, whichever of its threads has made them.
std::vector<pid_t> ChildrenOf(pid_t pid);

// Those among them that a subreaper has inherited, and few others: the kernel gives orphans to its first living thread,
// which is the main one (find_new_reaper, kernel/exit.c). To read the lists of all threads costs many times as much.
std::vector<pid_t> OrphansOf(pid_t reaper);

// The children that a thread of this process has made, oldest first; none where the kernel does not list them.
std::vector<pid_t> ChildrenOfThread(pid_t thread);

// /proc/PID/NAME, of the small files there; empty where it cannot be read.
std::string ReadProcFile(pid_t pid, std::string_view name);

// A variable's value in the environment that the process was started with. Nothing too when it may not be read.
std::optional<std::string> EnvironmentValue(pid_t pid, std::string_view name);

// /proc/sys/kernel/random/boot_id: a record from before a reboot says nothing of today's pids.
std::string BootId();

}  // namespace supervisor
