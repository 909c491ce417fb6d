#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <string>

#include "common/clock.h"
#include "ctl/commands/commands.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

// `top`: the whole system, live, busiest first. On no terminal, and with --json, one picture and the end.

namespace supervisor {
namespace {

constexpr absl::Duration kRefresh = absl::Seconds(2);
volatile std::sig_atomic_t g_ended = 0;

// The terminal as it was found is given back, whatever ends us short of SIGKILL.
class LiveScreen {
 public:
  LiveScreen() {
    tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    struct sigaction action {};
    action.sa_handler = [](int) { g_ended = 1; };
    for (const int signal : {SIGTERM, SIGHUP, SIGINT}) {
      sigaction(signal, &action, nullptr);
    }
  }
  ~LiveScreen() { tcsetattr(STDIN_FILENO, TCSANOW, &before_); }
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  // The next key, or nothing when the time is up; 'q' when it is time to end.
  static std::optional<char> Key(absl::Duration wait) {
    pollfd descriptor{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const absl::Duration whole = absl::Ceil(wait, absl::Milliseconds(1));
    const int ready = poll(&descriptor, 1, static_cast<int>(absl::ToInt64Milliseconds(whole)));
    if (g_ended != 0) {
      return 'q';
    }
    char key = 0;
    if (ready <= 0) {
      return std::nullopt;
    }
    return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';  // the terminal has gone
  }

 private:
  termios before_{};
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
        return a.id() < b.id();
    }
    return false;
  });
}

// Until the next picture is due, or a key wants it now: one that means nothing does not hurry it. False: the end.
bool Obey(MonoTime next, TopOrder& order) {
  while (MonotonicNow() < next) {
    const std::optional<char> key = LiveScreen::Key(std::max(next - MonotonicNow(), absl::ZeroDuration()));
    switch (key.value_or('\0')) {
      case 'q':
      case 'Q':
      case '\x03':
      case '\x04':
        return false;
      case 'c':
        order = TopOrder::kCpu;
        return true;
      case 'm':
        order = TopOrder::kMemory;
        return true;
      case 'r':
        order = TopOrder::kRestarts;
        return true;
      case 'n':
        order = TopOrder::kName;
        return true;
      default:
        break;
    }
  }
  return true;
}

ExitCode Live(Client& client, Output& output) {
  // No cursor, and what is too long is cut: a line that wraps would push the busiest services off the top.
  constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
  constexpr std::string_view kLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l";
  constexpr std::string_view kHome = "\x1b[H\x1b[2J";
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
    output.Print(TopText(response, order, Lines(), output.color()));
    output.Flush();
    if (!Obey(MonotonicNow() + kRefresh, order)) {
      break;
    }
  }
  output.Print(kLeave);
  output.Flush();
  return failure ? output.Fail(*failure) : ExitCode::kDone;
}

}  // namespace

ExitCode RunTop(const Invocation& /*invocation*/, Client& client, Output& output) {
  if (!output.json() && isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) {
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
    output.Print(TopText(response, TopOrder::kCpu, 0, output.color()));
  }
  return ExitCode::kDone;
}

}  // namespace supervisor
