#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/health/resolver.h"
#include "daemon/notify/alert.h"
#include "daemon/notify/channel_queue.h"

namespace supervisor {

// Carries alerts to the channels of the configuration: webhook, Slack, mail, command. On a thread of its own, which
// begins with the first alert for a channel: none that hangs holds up anything else, another channel included. What
// each channel is told, and when, is ChannelQueue's to say.
class Notifier {
 public:
  // Runs a program with `input` on its standard input, and kills it with all that it started after `limit`. Called on
  // the notifier's thread, returns at once; `done` once, on any thread.
  using RunCommand = std::function<void(const CommandConfig& run, std::string input, absl::Duration limit,
                                        std::function<void(absl::Status)> done)>;
  struct Options {
    std::string host;  // of this machine, as messages name it
    RunCommand run_command;
    // These have come through. Notifier's thread.
    std::function<void(const std::string& label, const std::vector<Alert>& alerts)> on_told;
    // These are not tried again: the receiver refuses them for good, `why` in words without anything secret. Notifier's
    // thread.
    std::function<void(const std::string& label, const std::vector<Alert>& alerts, const std::string& why)> on_dropped;
    // A channel is dead (in words, without anything secret), or works again (empty). Notifier's thread.
    std::function<void(const std::string& label, const std::string& trouble)> on_channel;
    ChannelTuning tuning = {};
    Resolver::Lookup lookup = LookUpHost;
  };

  Notifier(Options options, NotificationsConfig config);
  // Ends what is under way; what was not told is counted in the daemon's log.
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  // Any thread; return at once.
  // What waits in a channel goes to its successor (see ChannelSuccessors), which is as if it had never failed; where
  // there is none it is counted in the daemon's log.
  void Configure(NotificationsConfig config);
  // Raised, or resolved: to the channels of these labels.
  void Notify(const Alert& alert, const std::vector<std::string>& labels);
  // What came of a test notification by one channel.
  struct Tested {
    std::string label;
    ChannelType type = ChannelType::kWebhook;
    absl::Status status;
    std::string refused;  // recipients of the mail that the server would not have
    absl::Duration took;
  };
  // Sends `alert` as a test through each channel, past its queue and its intervals. `done` when all have been tried, in
  // the order of the configuration: on the notifier's thread, or at once where there is none.
  void Test(const Alert& alert, std::function<void(std::vector<Tested>)> done);
  // `done` when nothing waits any more, or each channel has had its try, or after `longest`: before the end. On the
  // notifier's thread, or at once where there is nothing to wait for.
  void Drain(absl::Duration longest, std::function<void()> done);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace supervisor
