#include "daemon/startup/signal_reader.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>

#include "daemon/startup/process_setup.h"

namespace supervisor {

SignalReader::SignalReader(Loop& loop, std::function<void(const signalfd_siginfo&)> callback)
    : callback_(std::move(callback)) {
  const sigset_t handled = HandledSignals();
  fd_.Reset(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  watch_ = loop.WatchFd(fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) { Read(); });
}

void SignalReader::Read() {
  std::array<signalfd_siginfo, 16> pending{};
  ssize_t size = 0;
  while ((size = read(fd_.get(), pending.data(), sizeof(pending))) > 0) {
    const auto end = pending.begin() + size / static_cast<ssize_t>(sizeof(signalfd_siginfo));
    std::stable_partition(pending.begin(), end, [](const signalfd_siginfo& info) {
      return info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT || info.ssi_signo == SIGQUIT;
    });
    for (auto info = pending.begin(); info != end; ++info) {
      callback_(*info);
    }
  }
}

}  // namespace supervisor
