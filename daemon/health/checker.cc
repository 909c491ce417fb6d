#include "daemon/health/checker.h"

#include <pthread.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "daemon/health/probe.h"
#include "daemon/loop/quiet_thread.h"

namespace supervisor {
namespace {

constexpr size_t kHelperThreads = 16;
constexpr size_t kStarterThreads = 1024;  // so many may hang with their file system; there is two where none does
constexpr std::chrono::milliseconds kAwaitStarts(300);
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string ScriptPath() {
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
  return path != nullptr && *path != '\0' ? path : kDefaultPath;
}

}  // namespace

// The checks that were asked for and not answered, shared by callers and the checker's thread.
class CheckRegister {
 public:
  using Done = std::function<void(CheckResult)>;

  uint64_t Add(Done done) {
    const std::lock_guard lock(mutex_);
    waiting_[++last_] = std::move(done);
    return last_;
  }

  bool IsWanted(uint64_t check) {
    const std::lock_guard lock(mutex_);
    return waiting_.contains(check);
  }

  // Nothing when the check was cancelled.
  std::optional<Done> Take(uint64_t check) {
    const std::lock_guard lock(mutex_);
    auto node = waiting_.extract(check);
    return node.empty() ? std::nullopt : std::optional<Done>(std::move(node.mapped()));
  }

  void Clear() {
    std::map<uint64_t, Done> dropped;
    const std::lock_guard lock(mutex_);
    dropped.swap(waiting_);
  }

 private:
  std::mutex mutex_;
  uint64_t last_ = 0;
  std::map<uint64_t, Done> waiting_;
};

// What runs on the checker's thread. Made by the thread of the first Start, destroyed after the thread has ended.
class CheckEngine {
 public:
  CheckEngine(CheckRegister& checks, const Checker::Options& options, std::string path)
      : checks_(checks), options_(options), path_(std::move(path)), mailbox_(new LoopMailbox(&loop_)) {}
  CheckEngine(const CheckEngine&) = delete;
  CheckEngine& operator=(const CheckEngine&) = delete;
  ~CheckEngine() = default;

  void Run() {
    tools_.emplace(loop_, mailbox_, options_.lookup, path_);
    loop_.Run();
  }

  // Any thread.
  void Post(Loop::Callback work) { loop_.Post(std::move(work)); }

  void Begin(uint64_t check, MonoTime started, const HealthCheckConfig& config, const CheckTarget& target,
             const Checker::GrpcProbe& grpc) {
    if (!checks_.IsWanted(check)) {
      return;
    }
    auto running = std::make_unique<Running>();
    Running& mine = *running;
    mine.started = started;
    running_[check] = std::move(running);
    ProbeRequest request{.config = config,
                         .target = target,
                         .finish = [this, check](const ProbeOutcome& outcome) { Finish(check, outcome); },
                         .begins = [&mine, timeout = config.timeout] { mine.BeginsNow(timeout); }};
    mine.probe = NewProbe(std::move(request), grpc);
    if (mine.probe == nullptr) {
      Finish(check, {.message = "no health check is configured"});
      return;
    }
    mine.deadline = loop_.NewTimer([&mine] { mine.probe->DeadlinePassed(); });
    mine.deadline->ArmAt(started + config.timeout);
    mine.probe->Begin();
  }

  void Drop(uint64_t check) { running_.erase(check); }

  // Ends Run. In steps, since scripts that are being started arrive as posted work.
  void Shutdown() {
    running_.clear();
    finished_.clear();
    tools_->scripts->Close(kAwaitStarts);
    loop_.Post([this] {
      if (options_.last_closes <= absl::ZeroDuration() || tools_->closer.idle()) {
        End();
        return;
      }
      tools_->closer.WhenIdle([this] { End(); });
      end_limit_ = loop_.NewTimer([this] { End(); });
      end_limit_->ArmAfter(options_.last_closes);
    });
  }

 private:
  // On a later turn: the closer may be what calls.
  void End() {
    loop_.Post([this] {
      end_limit_.reset();
      mailbox_->Close();
      tools_.reset();  // waits for the killer
      loop_.Stop();
    });
  }

  struct Running {
    MonoTime started;
    std::unique_ptr<Probe> probe;
    std::unique_ptr<Loop::Timer> deadline;

    void BeginsNow(absl::Duration timeout) {
      started = MonotonicNow();
      deadline->ArmAt(started + timeout);
    }
  };

  struct Tools {
    Tools(Loop& loop, const std::shared_ptr<LoopMailbox>& mailbox, const Resolver::Lookup& lookup,
          const std::string& path)
        : resolver(mailbox, lookup),
          curl(loop),
          closer(loop),
          pool(kHelperThreads),
          starters(kStarterThreads),
          gate(loop),
          killer(loop, mailbox),
          scripts(std::make_shared<ScriptStarter>(path, mailbox, gate, killer)),
          shared{.loop = loop,
                 .mailbox = mailbox,
                 .resolver = resolver,
                 .curl = curl,
                 .closer = closer,
                 .pool = pool,
                 .starters = starters,
                 .gate = gate,
                 .killer = killer,
                 .scripts = scripts,
                 .looks = std::make_shared<ProcessLooks>()} {}
    Resolver resolver;
    CurlDriver curl;
    OrderlyClose closer;
    HelperPool pool;
    HelperPool starters;
    StartGate gate;
    KillerThread killer;
    std::shared_ptr<ScriptStarter> scripts;
    ProbeTools shared;
  };

  std::unique_ptr<Probe> NewProbe(ProbeRequest request, const Checker::GrpcProbe& grpc) {
    switch (request.config.type) {
      case HealthCheckType::kNone:
        return nullptr;
      case HealthCheckType::kHttp:
        return NewHttpProbe(tools_->shared, std::move(request));
      case HealthCheckType::kTcp:
        return NewTcpProbe(tools_->shared, std::move(request));
      case HealthCheckType::kProcess:
        return NewProcessProbe(tools_->shared, std::move(request));
      case HealthCheckType::kScript:
        return NewScriptProbe(tools_->shared, std::move(request));
      case HealthCheckType::kGrpc:
        return NewGrpcProbe(tools_->shared, std::move(request), grpc);
    }
    return nullptr;
  }

  void Finish(uint64_t check, const ProbeOutcome& outcome) {
    auto node = running_.extract(check);
    if (node.empty()) {
      return;  // it has finished before
    }
    const absl::Duration took = outcome.took.value_or(MonotonicNow() - node.mapped()->started);
    node.mapped()->deadline.reset();
    if (finished_.empty()) {  // the probe is still on the stack: it goes on a later turn
      loop_.Post([this] { finished_.clear(); });
    }
    finished_.push_back(std::move(node.mapped()));
    if (const std::optional<CheckRegister::Done> done = checks_.Take(check)) {
      (*done)({.success = outcome.success,
               .response_time_ms = absl::ToDoubleMilliseconds(took),
               .message = outcome.message,
               .finished = WallNow(),
               .timed_out = outcome.timed_out});
    }
  }

  CheckRegister& checks_;
  const Checker::Options& options_;
  std::string path_;
  Loop loop_;
  std::shared_ptr<LoopMailbox> mailbox_;
  std::optional<Tools> tools_;
  std::unique_ptr<Loop::Timer> end_limit_;
  std::map<uint64_t, std::unique_ptr<Running>> running_;
  std::vector<std::unique_ptr<Running>> finished_;
};

class Checker::Impl {
 public:
  explicit Impl(Options options) : options_(std::move(options)) {
    if (!options_.lookup) {
      options_.lookup = LookUpHost;
    }
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ~Impl() {
    checks_.Clear();
    if (engine_ != nullptr) {
      engine_->Post([this] { engine_->Shutdown(); });
      thread_.join();
    }
  }

  uint64_t Start(const HealthCheckConfig& config, const CheckTarget& target, std::function<void(CheckResult)> done) {
    const MonoTime now = MonotonicNow();
    const uint64_t check = checks_.Add(std::move(done));
    GrpcProbe grpc;
    if (CheckEngine* engine = RunningEngine(grpc); engine != nullptr) {
      engine->Post([=] { engine->Begin(check, now, config, target, grpc); });
    } else if (const auto refused = checks_.Take(check)) {
      (*refused)({.message = "the check did not run: no thread for it can be made", .finished = WallNow()});
    }
    return check;
  }

  void Cancel(uint64_t check) {
    if (!checks_.Take(check).has_value()) {
      return;
    }
    const std::lock_guard lock(mutex_);
    engine_->Post([engine = engine_.get(), check] { engine->Drop(check); });
  }

  void SetGrpcProbe(GrpcProbe probe) {
    const std::lock_guard lock(mutex_);
    grpc_ = std::move(probe);
  }

 private:
  CheckEngine* RunningEngine(GrpcProbe& grpc) {
    const std::lock_guard lock(mutex_);
    grpc = grpc_;
    if (engine_ == nullptr) {
      auto engine = std::make_unique<CheckEngine>(checks_, options_, ScriptPath());
      thread_ = StartQuietThread([ready = engine.get()] { ready->Run(); });
      if (thread_.joinable()) {
        engine_ = std::move(engine);
      }
    }
    return engine_.get();
  }

  Options options_;  // unchanged once made
  CheckRegister checks_;
  std::mutex mutex_;  // guards what follows
  GrpcProbe grpc_;
  std::unique_ptr<CheckEngine> engine_;
  std::thread thread_;
};

Checker::Checker() : Checker(Options{}) {}
Checker::Checker(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Checker::~Checker() = default;

uint64_t Checker::Start(const HealthCheckConfig& config, const CheckTarget& target,
                        std::function<void(CheckResult)> done) {
  return impl_->Start(config, target, std::move(done));
}

void Checker::Cancel(uint64_t check) { impl_->Cancel(check); }

void Checker::SetGrpcProbe(GrpcProbe probe) { impl_->SetGrpcProbe(std::move(probe)); }

}  // namespace supervisor
