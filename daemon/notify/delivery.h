#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/health/curl_driver.h"
#include "daemon/health/resolver.h"
#include "daemon/loop/helper_pool.h"
#include "daemon/loop/loop.h"
#include "daemon/notify/channel_queue.h"

namespace supervisor {

// What deliveries are made with, all of one loop's thread. Outlives them.
struct DeliveryTools {
  Loop& loop;
  std::shared_ptr<LoopMailbox> mailbox;
  CurlDriver& curl;
  Resolver& resolver;
  HelperPool& pool;
};

struct DeliveryOutcome {
  // What went wrong, without anything secret (no URL, no header, no answer's body).
  absl::Status status;
  // Where it is well: the recipients that the server would not have, as "a@example.org (550)".
  std::string refused = {};
  // Where it is not.
  ChannelQueue::Failed failed = {};
};

// One message on its way by HTTP or SMTP, until it is destroyed. Names go through the Resolver, so that libcurl, whose
// own may block at clean-up, never looks one up. The time limit is the caller's.
class Delivery {
 public:
  // Called once, on a later turn.
  using Done = std::function<void(const DeliveryOutcome&)>;

  // `body` is for the channel's type: JSON, or for mail the whole of it.
  static std::unique_ptr<Delivery> Begin(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                         const Done& done);
  Delivery() = default;
  virtual ~Delivery() = default;
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

 protected:
  // Begins. A failure is told by Begin, on a later turn, and `done` is not called then.
  virtual absl::Status Start() = 0;
};

// The two kinds, see their files.
std::unique_ptr<Delivery> NewWebDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                         Delivery::Done done);
std::unique_ptr<Delivery> NewMailDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                          Delivery::Done done);

// What an HTTP status other than 200 to 299 says of what to try next.
DeliveryFailure FailureOfStatus(long status);

}  // namespace supervisor
