#include "daemon/notify/notifier.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/diag_log.h"
#include "common/time_format.h"
#include "daemon/health/curl_driver.h"
#include "daemon/loop/helper_pool.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/quiet_thread.h"
#include "daemon/notify/channel_succession.h"
#include "daemon/notify/delivery.h"
#include "daemon/notify/message.h"

namespace supervisor {
namespace {

constexpr size_t kMailThreads = 4;

// What runs on the notifier's thread.
class Engine {
 public:
  explicit Engine(const Notifier::Options& options) : options_(options), mailbox_(new LoopMailbox(&loop_)) {}
  ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void Run() {
    tools_.emplace(loop_, mailbox_, options_.lookup);
    drain_limit_ = loop_.NewTimer([this] { EndDrain(); });
    loop_.Run();
  }
  // Any thread.
  void Post(Loop::Callback work) { loop_.Post(std::move(work)); }

  // The rest: on its thread.
  void Configure(const NotificationsConfig& config);
  void Notify(const Alert& alert, const std::vector<std::string>& labels);
  void Test(const Alert& alert, std::function<void(std::vector<Notifier::Tested>)> done);
  void Drain(absl::Duration longest, std::function<void()> done);
  void Shutdown();

 private:
  struct Channel {
    ChannelConfig config;
    std::string label;
    ChannelQueue queue;
    std::unique_ptr<Loop::Timer> due;
    std::unique_ptr<Loop::Timer> limit;  // of the attempt under way
    std::unique_ptr<Delivery> delivery;
    uint64_t attempt = 0;  // tells a late answer from the one that is waited for
    uint64_t refused_alerts = 0;
    bool tried = false;        // since Drain
    std::string refused = {};  // recipients of the last mail that the server would not have
  };
  struct Tools {
    Tools(Loop& loop, const std::shared_ptr<LoopMailbox>& mailbox, const Resolver::Lookup& lookup)
        : resolver(mailbox, lookup),
          curl(loop),
          pool(kMailThreads),
          shared{.loop = loop, .mailbox = mailbox, .curl = curl, .resolver = resolver, .pool = pool} {}
    Resolver resolver;
    CurlDriver curl;
    HelperPool pool;
    DeliveryTools shared;
  };

  // What carries one test notification. Its callbacks keep it until they have been called.
  struct TestAttempt {
    std::unique_ptr<Delivery> delivery;
    std::unique_ptr<Loop::Timer> limit;
    bool ended = false;
  };

  // One test of all channels.
  struct Trial {
    std::vector<Notifier::Tested> results;
    size_t open = 0;  // that have not ended
    std::function<void(std::vector<Notifier::Tested>)> done;
  };

  // Sends the alerts as the channel's type has it. What is returned is to be kept until `done`; null: nothing is.
  std::unique_ptr<Delivery> Send(const ChannelConfig& config, const std::vector<Alert>& alerts,
                                 const MessageFacts& facts, const Delivery::Done& done);
  void TestOne(const std::shared_ptr<Trial>& trial, size_t index, const Alert& alert);
  std::shared_ptr<Channel> NewChannel(const ChannelConfig& config, const std::string& label);
  void Succeed(Channel& channel, Channel& before) const;
  void Begin(const std::shared_ptr<Channel>& channel);
  void End(const std::shared_ptr<Channel>& channel, uint64_t attempt, const DeliveryOutcome& outcome);
  static void TellRefused(Channel& channel, const std::string& refused);
  void DropRefused(Channel& channel, const std::vector<Alert>& alerts, const std::string& why);
  void Account(const Channel& channel, std::string_view why) const;
  absl::Duration LimitOf(const ChannelConfig& config) const;
  void CheckDrained();
  void EndDrain();

  const Notifier::Options& options_;
  Loop loop_;
  std::shared_ptr<LoopMailbox> mailbox_;
  std::optional<Tools> tools_;
  std::vector<ChannelConfig> channel_configs_;  // of channels_, in this order
  std::vector<std::shared_ptr<Channel>> channels_;
  std::vector<std::weak_ptr<TestAttempt>> tests_;  // under way
  uint64_t message_ = 0;
  std::function<void()> drained_;
  std::unique_ptr<Loop::Timer> drain_limit_;
};

std::shared_ptr<Engine::Channel> Engine::NewChannel(const ChannelConfig& config, const std::string& label) {
  auto channel = std::make_shared<Channel>(Channel{.config = config,
                                                   .label = label,
                                                   .queue = ChannelQueue(options_.tuning, absl::ZeroDuration()),
                                                   .due = nullptr,
                                                   .limit = nullptr,
                                                   .delivery = nullptr});
  const std::weak_ptr<Channel> weak = channel;
  channel->due = loop_.NewTimer([this, weak] {
    if (const std::shared_ptr<Channel> alive = weak.lock()) {
      Begin(alive);
    }
  });
  channel->limit = loop_.NewTimer([this, weak] {
    if (const std::shared_ptr<Channel> alive = weak.lock()) {
      End(alive, alive->attempt,
          {.status = absl::DeadlineExceededError(
               fmt::format("timed out after {}", FormatSpan(options_.tuning.attempt_limit)))});
    }
  });
  return channel;
}

void Engine::Configure(const NotificationsConfig& config) {
  const std::vector<std::shared_ptr<Channel>> before = std::move(channels_);
  channels_.clear();
  const std::vector<ChannelConfig> after = config.enabled ? config.channels : std::vector<ChannelConfig>();
  const std::vector<std::string> labels = ChannelLabels(after);
  const std::vector<std::optional<size_t>> successors = ChannelSuccessors(channel_configs_, after);
  channels_.resize(after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    if (!successors[i]) {
      Account(*before[i], "its channel was taken from the configuration");
      continue;
    }
    std::shared_ptr<Channel>& channel = channels_[*successors[i]];
    if (before[i]->config == after[*successors[i]] && before[i]->label == labels[*successors[i]]) {
      channel = before[i];  // and what is under way in it goes on
      continue;
    }
    channel = NewChannel(after[*successors[i]], labels[*successors[i]]);
    Succeed(*channel, *before[i]);
  }
  for (size_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i] == nullptr) {
      channels_[i] = NewChannel(after[i], labels[i]);
    }
    channels_[i]->queue.SetInterval(config.min_interval);
  }
  channel_configs_ = after;
}

void Engine::Succeed(Channel& channel, Channel& before) const {
  if (!before.queue.idle()) {
    LogInfo("a channel is configured anew: what waits in it is told now",
            {{"channel", channel.label}, {"before", before.label}, {"count", std::to_string(before.queue.size())}});
  }
  channel.queue = std::move(before.queue);
  channel.queue.BeginAnew();
  channel.due->ArmAt(channel.queue.Due());
}

void Engine::Account(const Channel& channel, std::string_view why) const {
  if (!channel.queue.idle()) {
    LogWarning(
        "notifications were not delivered",
        {{"channel", channel.label}, {"count", std::to_string(channel.queue.size())}, {"why", std::string(why)}});
  }
}

void Engine::Notify(const Alert& alert, const std::vector<std::string>& labels) {
  const MonoTime now = MonotonicNow();
  for (const std::shared_ptr<Channel>& channel : channels_) {
    if (std::ranges::count(labels, channel->label) == 0) {
      continue;
    }
    const uint64_t dropped = channel->queue.dropped();
    channel->queue.Add(alert, now);
    if (dropped == 0 && channel->queue.dropped() > 0) {
      LogWarning("a channel's queue is full: the oldest notifications go", {{"channel", channel->label}});
    }
    channel->due->ArmAt(channel->queue.Due());
  }
}

void Engine::Begin(const std::shared_ptr<Channel>& channel) {
  if (channel->queue.Due() > MonotonicNow()) {
    channel->due->ArmAt(channel->queue.Due());
    return;
  }
  const std::vector<Alert> alerts = channel->queue.Take();
  const MessageFacts facts{
      .host = options_.host, .left_out = channel->queue.left_out(), .now = WallNow(), .number = ++message_};
  const uint64_t attempt = ++channel->attempt;
  channel->limit->ArmAfter(LimitOf(channel->config));
  channel->delivery = Send(channel->config, alerts, facts,
                           [this, weak = std::weak_ptr<Channel>(channel), attempt](const DeliveryOutcome& outcome) {
                             if (const std::shared_ptr<Channel> alive = weak.lock()) {
                               End(alive, attempt, outcome);
                             }
                           });
}

// A command's own limit kills it; ours comes later and is for a runner that does not answer.
absl::Duration Engine::LimitOf(const ChannelConfig& config) const {
  return options_.tuning.attempt_limit * (config.type == ChannelType::kCommand ? 2 : 1);
}

std::unique_ptr<Delivery> Engine::Send(const ChannelConfig& config, const std::vector<Alert>& alerts,
                                       const MessageFacts& facts, const Delivery::Done& done) {
  switch (config.type) {
    case ChannelType::kWebhook:
      return Delivery::Begin(tools_->shared, config, WebhookBody(alerts, facts), done);
    case ChannelType::kSlack:
      return Delivery::Begin(tools_->shared, config, SlackBody(alerts, facts), done);
    case ChannelType::kEmail:
      return Delivery::Begin(tools_->shared, config, MailBody(config, alerts, facts), done);
    case ChannelType::kCommand:
      options_.run_command(config.run, WebhookBody(alerts, facts), options_.tuning.attempt_limit,
                           [mailbox = mailbox_, done](const absl::Status& status) {
                             mailbox->Post([done, status] {
                               done({.status = status, .failed = {.failure = DeliveryFailure::kServerError}});
                             });
                           });
      return nullptr;
  }
  return nullptr;
}

void Engine::End(const std::shared_ptr<Channel>& channel, uint64_t attempt, const DeliveryOutcome& outcome) {
  if (attempt != channel->attempt) {
    return;
  }
  ++channel->attempt;
  channel->limit->Disarm();
  if (channel->delivery != nullptr) {
    loop_.DestroyLater(std::move(channel->delivery));  // it may be what calls
  }
  const MonoTime now = MonotonicNow();
  const absl::Status& status = outcome.status;
  if (status.ok()) {
    TellRefused(*channel, outcome.refused);
    options_.on_told(channel->label, channel->queue.taken());
  }
  const ChannelQueue::Outcome ended = status.ok() ? ChannelQueue::Outcome{.turn = channel->queue.Delivered(now)}
                                                  : channel->queue.EndFailed(outcome.failed, now);
  const std::string why(status.message());
  if (!ended.dropped.empty()) {
    DropRefused(*channel, ended.dropped, why);
  } else if (!status.ok()) {
    LogWarning("a notification was not delivered; it is tried again", {{"channel", channel->label}, {"error", why}});
  }
  switch (ended.turn) {
    case ChannelQueue::Turn::kNone:
      break;
    case ChannelQueue::Turn::kDied:
      options_.on_channel(channel->label, why);
      break;
    case ChannelQueue::Turn::kRecovered:
      options_.on_channel(channel->label, "");
      break;
  }
  channel->due->ArmAt(channel->queue.Due());
  channel->tried = true;
  CheckDrained();
}

void Engine::DropRefused(Channel& channel, const std::vector<Alert>& alerts, const std::string& why) {
  for (const Alert& alert : alerts) {
    ++channel.refused_alerts;
    LogError("the receiver refuses a notification for good: it is dropped, and others go on",
             {{"channel", channel.label},
              {"service", alert.service_id},
              {"rule", alert.rule},
              {"error", why},
              {"dropped", std::to_string(channel.refused_alerts)}});
  }
  options_.on_dropped(channel.label, alerts, why);
}

void Engine::Test(const Alert& alert, std::function<void(std::vector<Notifier::Tested>)> done) {
  auto trial = std::make_shared<Trial>();
  trial->done = std::move(done);
  trial->open = channels_.size();
  for (const std::shared_ptr<Channel>& channel : channels_) {
    trial->results.push_back(
        {.label = channel->label, .type = channel->config.type, .status = {}, .refused = {}, .took = {}});
  }
  if (channels_.empty()) {
    trial->done({});
    return;
  }
  for (size_t i = 0; i < channels_.size(); ++i) {
    TestOne(trial, i, alert);
  }
}

// Beside the channel's own attempt, if one is under way.
void Engine::TestOne(const std::shared_ptr<Trial>& trial, size_t index, const Alert& alert) {
  const std::shared_ptr<Channel> channel = channels_[index];
  const auto attempt = std::make_shared<TestAttempt>();
  std::erase_if(tests_, [](const std::weak_ptr<TestAttempt>& one) { return one.expired(); });
  tests_.push_back(attempt);
  const MonoTime began = MonotonicNow();
  const auto end = [this, trial, index, began, attempt,
                    weak = std::weak_ptr<Channel>(channel)](const DeliveryOutcome& outcome) {
    if (std::exchange(attempt->ended, true)) {
      return;
    }
    Notifier::Tested& tested = trial->results[index];
    tested.status = outcome.status;
    tested.refused = outcome.refused;
    tested.took = MonotonicNow() - began;
    loop_.Post([attempt] {  // either may be what calls
      attempt->delivery.reset();
      attempt->limit.reset();
    });
    const std::shared_ptr<Channel> alive = weak.lock();
    if (outcome.status.ok() && alive != nullptr && alive->queue.Due() != kNoDeadline) {
      alive->queue.Hurry();  // it works: what waits for another try need not wait
      alive->due->ArmAfter(absl::ZeroDuration());
    }
    if (--trial->open == 0) {
      trial->done(std::move(trial->results));
    }
  };
  const absl::Duration limit = LimitOf(channel->config);
  attempt->limit = loop_.NewTimer([end, limit] {
    end({.status = absl::DeadlineExceededError(fmt::format("timed out after {}", FormatSpan(limit)))});
  });
  attempt->limit->ArmAfter(limit);
  const MessageFacts facts{
      .host = options_.host, .left_out = 0, .now = WallNow(), .number = ++message_, .is_test = true};
  attempt->delivery = Send(channel->config, {alert}, facts, end);
}

// Once, until others are refused.
void Engine::TellRefused(Channel& channel, const std::string& refused) {
  if (refused == channel.refused) {
    return;
  }
  channel.refused = refused;
  if (refused.empty()) {
    LogInfo("the server takes all recipients of a mail again", {{"channel", channel.label}});
  } else {
    LogWarning("the server refuses recipients of a mail; the others have got it",
               {{"channel", channel.label}, {"refused", refused}});
  }
}

// What waits only for its interval goes out at once.
void Engine::Drain(absl::Duration longest, std::function<void()> done) {
  drained_ = std::move(done);
  drain_limit_->ArmAfter(longest);
  for (const std::shared_ptr<Channel>& channel : channels_) {
    channel->tried = false;
    if (channel->queue.Due() != kNoDeadline) {
      channel->queue.Hurry();
      channel->due->ArmAfter(absl::ZeroDuration());
    }
  }
  CheckDrained();
}

void Engine::CheckDrained() {
  for (const std::shared_ptr<Channel>& channel : channels_) {
    if (!channel->queue.idle() && !channel->tried) {
      return;
    }
  }
  EndDrain();
}

void Engine::EndDrain() {
  drain_limit_->Disarm();
  if (const auto drained = std::exchange(drained_, nullptr)) {
    drained();
  }
}

void Engine::Shutdown() {
  EndDrain();
  for (const std::shared_ptr<Channel>& channel : channels_) {
    Account(*channel, "the daemon ends");
  }
  channels_.clear();
  for (const std::weak_ptr<TestAttempt>& test : tests_) {
    if (const std::shared_ptr<TestAttempt> attempt = test.lock()) {
      attempt->ended = true;
      attempt->delivery.reset();
      attempt->limit.reset();
    }
  }
  mailbox_->Close();
  // On the next turn, after deliveries that were to be destroyed later.
  loop_.Post([this] {
    drain_limit_.reset();
    tools_.reset();
    loop_.Stop();
  });
}

}  // namespace

class Notifier::Impl {
 public:
  Impl(Options options, NotificationsConfig config) : options_(std::move(options)), config_(std::move(config)) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ~Impl() {
    if (engine_ != nullptr) {
      engine_->Post([this] { engine_->Shutdown(); });
      thread_.join();
    }
  }

  void Configure(NotificationsConfig config) {
    const std::lock_guard lock(mutex_);
    config_ = std::move(config);
    if (engine_ != nullptr) {
      engine_->Post([engine = engine_.get(), now = config_] { engine->Configure(now); });
    }
  }

  void Notify(const Alert& alert, const std::vector<std::string>& labels) {
    const std::lock_guard lock(mutex_);
    if (labels.empty()) {
      return;
    }
    if (engine_ == nullptr && !StartEngine()) {
      LogError("notifications cannot be sent: no thread for them can be made",
               {{"service", alert.service_id}, {"rule", alert.rule}});
      return;
    }
    engine_->Post([engine = engine_.get(), alert, labels] { engine->Notify(alert, labels); });
  }

  void Test(const Alert& alert, std::function<void(std::vector<Tested>)> done) {
    const std::lock_guard lock(mutex_);
    const bool has_channels = config_.enabled && !config_.channels.empty();
    if (engine_ == nullptr && (!has_channels || !StartEngine())) {
      done({});
      return;
    }
    engine_->Post(
        [engine = engine_.get(), alert, done = std::move(done)]() mutable { engine->Test(alert, std::move(done)); });
  }

  void Drain(absl::Duration longest, std::function<void()> done) {
    const std::lock_guard lock(mutex_);
    if (engine_ == nullptr) {
      done();
      return;
    }
    engine_->Post([engine = engine_.get(), longest, done = std::move(done)]() mutable {
      engine->Drain(longest, std::move(done));
    });
  }

 private:
  bool StartEngine() {
    auto engine = std::make_unique<Engine>(options_);
    engine->Post([ready = engine.get(), config = config_] { ready->Configure(config); });
    thread_ = StartQuietThread([ready = engine.get()] {
      pthread_setname_np(pthread_self(), "notifier");
      ready->Run();
    });
    if (thread_.joinable()) {
      engine_ = std::move(engine);
    }
    return engine_ != nullptr;
  }

  const Options options_;
  std::mutex mutex_;  // guards what follows
  NotificationsConfig config_;
  std::unique_ptr<Engine> engine_;
  std::thread thread_;
};

Notifier::Notifier(Options options, NotificationsConfig config)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(config))) {}
Notifier::~Notifier() = default;

void Notifier::Configure(NotificationsConfig config) { impl_->Configure(std::move(config)); }

void Notifier::Notify(const Alert& alert, const std::vector<std::string>& labels) { impl_->Notify(alert, labels); }

void Notifier::Test(const Alert& alert, std::function<void(std::vector<Tested>)> done) {
  impl_->Test(alert, std::move(done));
}

void Notifier::Drain(absl::Duration longest, std::function<void()> done) { impl_->Drain(longest, std::move(done)); }

}  // namespace supervisor
