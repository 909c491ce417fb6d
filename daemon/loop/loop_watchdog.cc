#include "daemon/loop/loop_watchdog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/time_format.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop_pulse.h"
#include "daemon/loop/quiet_thread.h"

namespace supervisor {
namespace {

std::string ReadOfThread(pid_t thread, const char* name) {
  const UniqueFd fd(open(fmt::format("/proc/self/task/{}/{}", thread, name).c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 512> buffer{};
  const ssize_t got = fd ? read(fd.get(), buffer.data(), buffer.size()) : -1;
  std::string text(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

// Field 3 of /proc/PID/stat, behind a name that may hold anything (proc(5)).
HangJudge::Thread StateOf(pid_t thread) {
  const std::string stat = ReadOfThread(thread, "stat");
  const size_t name_end = stat.rfind(')');
  const char state = name_end != std::string::npos && name_end + 2 < stat.size() ? stat[name_end + 2] : '?';
  return state == 'S' ? HangJudge::Thread::kWaits
                      : (state == 'R' ? HangJudge::Thread::kRuns : HangJudge::Thread::kStalled);
}

// As pthread_getcpuclockid(3) makes it, of a thread that we know by its number (Linux's MAKE_THREAD_CPUCLOCK).
absl::Duration CpuTimeOf(pid_t thread) {
  constexpr unsigned kPerThreadSched = 6;
  const auto clock = static_cast<clockid_t>((~static_cast<unsigned>(thread) << 3) | kPerThreadSched);
  timespec time{};
  const bool lives = clock_gettime(clock, &time) == 0;  // style-ok(clock): what a thread has used, not what time it is
  return lives ? absl::DurationFromTimespec(time) : absl::ZeroDuration();
}

}  // namespace

LoopWatchdog::LoopWatchdog(Observer observer)
    : pulse_(ThisThreadsPulse()), observer_(std::move(observer)), thread_(StartQuietThread([this] { Run(); })) {}

LoopWatchdog::~LoopWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void LoopWatchdog::Run() {
  std::unique_lock lock(mutex_);
  MonoTime last = MonotonicNow();
  while (!wake_.wait_for(lock, absl::ToChronoMilliseconds(HangJudge::kInterval), [this] { return ends_; })) {
    lock.unlock();
    const MonoTime now = MonotonicNow();
    Look(now - std::exchange(last, now));
    lock.lock();
  }
}

void LoopWatchdog::Look(absl::Duration since_last) {
  const pid_t thread = pulse_.thread.load(std::memory_order_relaxed);
  HangJudge::Look look{.callbacks = pulse_.callbacks.load(std::memory_order_relaxed),
                       .thread = HangJudge::Thread::kStalled,
                       .cpu = absl::ZeroDuration(),
                       .since_last = since_last};
  if (thread != 0 && look.callbacks % 2 != 0) {  // an idle loop costs no look into /proc
    look.thread = StateOf(thread);
    look.cpu = CpuTimeOf(thread);
  }
  const HangJudge::Verdict verdict = judge_.Judge(look);
  if (verdict == HangJudge::Verdict::kFine) {
    return;
  }
  // wchan and syscall are root's and the owner's alone to read, and not in every kernel.
  const std::string what =
      fmt::format("one callback of the event loop has waited for {} and computed for {}; it is in {}, system call {}",
                  FormatSpan(judge_.waited()), FormatSpan(judge_.computed()), ReadOfThread(thread, "wchan"),
                  ReadOfThread(thread, "syscall"));
  (verdict == HangJudge::Verdict::kTell ? observer_.on_slow : observer_.on_hung)(what);
}

}  // namespace supervisor
