#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "common/instance_order.h"
#include "ctl/commands/commands.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

// `top`: the whole system, live, busiest first. On no terminal, and with --json, one picture and the end.

namespace supervisor {
namespace {

constexpr absl::Duration kRefresh = absl::Seconds(2);

// What has come from outside since it was last asked. A handler only notes it.
volatile std::sig_atomic_t g_ended = 0;
volatile std::sig_atomic_t g_suspended = 0;
volatile std::sig_atomic_t g_redraw = 0;

constexpr std::array<int, 3> kEnds = {SIGTERM, SIGHUP, SIGINT};
constexpr std::array<int, 2> kRedraws = {SIGWINCH, SIGCONT};

void OnSignal(int signal) {
  if (signal == SIGTSTP) {
    g_suspended = 1;
  } else if (signal == SIGWINCH || signal == SIGCONT) {
    g_redraw = 1;
  } else {
    g_ended = 1;
  }
}

// Keys as LiveScreen::Key tells what is not a key of the user's.
constexpr char kSuspendKey = '\x1a';  // also Ctrl-Z itself
constexpr char kRedrawKey = '\x0c';   // also Ctrl-L itself

// The terminal as it was found is given back, whatever ends us short of SIGKILL.
class LiveScreen {
 public:
  LiveScreen() {
    tcgetattr(STDIN_FILENO, &before_);
    // The signals are let in only while a key is waited for, so none is missed before the wait.
    sigset_t taken;
    sigemptyset(&taken);
    struct sigaction action {};
    action.sa_handler = OnSignal;
    const auto take = [&](int signal) {
      sigaddset(&taken, signal);
      sigaction(signal, &action, nullptr);
    };
    std::ranges::for_each(kEnds, take);
    std::ranges::for_each(kRedraws, take);
    take(SIGTSTP);
    pthread_sigmask(SIG_BLOCK, &taken, &let_in_);
    for (const int signal : kEnds) {
      sigdelset(&let_in_, signal);
    }
    for (const int signal : kRedraws) {
      sigdelset(&let_in_, signal);
    }
    sigdelset(&let_in_, SIGTSTP);
    MakeRaw();
  }
  ~LiveScreen() { GiveBack(); }
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  // The next key, or nothing when the time is up; 'q' when it is time to end.
  std::optional<char> Key(absl::Duration wait) const {
    pollfd descriptor{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const timespec limit = absl::ToTimespec(std::max(wait, absl::ZeroDuration()));
    const int ready = ppoll(&descriptor, 1, &limit, &let_in_);
    if (g_ended != 0) {
      return 'q';
    }
    if (std::exchange(g_suspended, 0) != 0) {
      return kSuspendKey;
    }
    if (std::exchange(g_redraw, 0) != 0) {
      return kRedrawKey;
    }
    char key = 0;
    if (ready <= 0) {
      return std::nullopt;
    }
    return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';  // the terminal has gone
  }

  // Stops this process as a shell's job, with the terminal as it was found; returns when it is continued.
  void Suspend() const {
    GiveBack();
    std::signal(SIGTSTP, SIG_DFL);  // NOLINT(bugprone-unused-return-value): cannot fail for SIGTSTP
    std::raise(SIGTSTP);
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);  // here it stops
    pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    std::signal(SIGTSTP, OnSignal);  // NOLINT(bugprone-unused-return-value): cannot fail for SIGTSTP
    MakeRaw();
  }

  // Another program has had the terminal meanwhile: SIGSTOP leaves no time to give it back.
  void MakeRaw() const {
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  }

 private:
  void GiveBack() const { tcsetattr(STDIN_FILENO, TCSANOW, &before_); }

  termios before_{};
  sigset_t let_in_{};
};

size_t Lines() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row : 24;
}

void Sort(TopOrder order, v1::SummaryResponse& response) {
  auto* services = response.mutable_services();
  std::stable_sort(services->begin(), services->end(), [order](const v1::ServiceStatus& a, const v1::ServiceStatus& b) {
    switch (order) {
      case TopOrder::kCpu:
        return a.cpu_percent() > b.cpu_percent();
      case TopOrder::kMemory:
        return a.memory_mb() > b.memory_mb();
      case TopOrder::kRestarts:
        return a.restart_count() > b.restart_count();
      case TopOrder::kName:
        return InstanceIdLess()(a.id(), b.id());
    }
    return false;
  });
}

enum class Wish { kGoOn, kSuspend, kRepaint, kEnd };

// Until the next picture is due, or a key wants it now: one that means nothing does not hurry it.
Wish Obey(const LiveScreen& screen, MonoTime next, TopOrder& order) {
  while (MonotonicNow() < next) {
    const std::optional<char> key = screen.Key(next - MonotonicNow());
    switch (key.value_or('\0')) {
      case 'q':
      case 'Q':
      case '\x03':
      case '\x04':
        return Wish::kEnd;
      case kSuspendKey:
        return Wish::kSuspend;
      case kRedrawKey:
        return Wish::kRepaint;
      case 'c':
        order = TopOrder::kCpu;
        return Wish::kGoOn;
      case 'm':
        order = TopOrder::kMemory;
        return Wish::kGoOn;
      case 'r':
        order = TopOrder::kRestarts;
        return Wish::kGoOn;
      case 'n':
        order = TopOrder::kName;
        return Wish::kGoOn;
      default:
        break;
    }
  }
  return Wish::kGoOn;
}

// No cursor, and no wrapping: a line that wraps would push the busiest services off the top.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H\x1b[2J";

// False: the end.
bool WaitForNext(const LiveScreen& screen, TopOrder& order, Output& output) {
  switch (Obey(screen, MonotonicNow() + kRefresh, order)) {
    case Wish::kGoOn:
      return true;
    case Wish::kSuspend:
      output.Print(kLeave);
      output.Flush();
      screen.Suspend();
      output.Print(kEnter);
      return true;
    case Wish::kRepaint:
      screen.MakeRaw();
      output.Print(kEnter);
      return true;
    case Wish::kEnd:
      return false;
  }
  return false;
}

ExitCode Live(Client& client, Output& output) {
  const LiveScreen screen;
  TopOrder order = TopOrder::kCpu;
  output.Print(kEnter);
  std::optional<Failure> failure;
  while (!output.closed()) {
    v1::SummaryResponse response;
    failure = client.Read(&Client::Stub::Summary, v1::SummaryRequest(), &response, "top");
    if (failure) {
      break;
    }
    Sort(order, response);
    output.Print(kHome);
    output.Print(TopText(response, order, Lines(), output.color(), Output::width()));
    output.Flush();
    if (!WaitForNext(screen, order, output)) {
      break;
    }
  }
  output.Print(kLeave);
  output.Flush();
  return failure ? output.Fail(*failure) : ExitCode::kDone;
}

}  // namespace

ExitCode RunTop(const Invocation& /*invocation*/, Client& client, Output& output) {
  if (!output.json() && isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && !IsDumbTerminal()) {
    return Live(client, output);
  }
  v1::SummaryResponse response;
  if (const auto failure = client.Read(&Client::Stub::Summary, v1::SummaryRequest(), &response, "top")) {
    return output.Fail(*failure);
  }
  Sort(TopOrder::kCpu, response);
  if (output.json()) {
    output.PrintJson(SummaryJson(response));
  } else {
    output.Print(TopText(response, TopOrder::kCpu, 0, output.color(), Output::width()));
  }
  return ExitCode::kDone;
}

}  // namespace supervisor
