// What holds for all checks: cancelling, many at once, things that hang, gRPC's hook.
#include "daemon/health/checker.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include "common/clock.h"
#include "daemon/health/resolver.h"
#include "tests/daemon/health/check_runner.h"
#include "tests/daemon/health/tiny_server.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

HealthCheckConfig Http(const std::string& url, absl::Duration timeout = absl::Seconds(30)) {
  HealthCheckConfig config;
  config.type = HealthCheckType::kHttp;
  config.url = url;
  config.timeout = timeout;
  return config;
}

HealthCheckConfig Tcp(const std::string& host, uint16_t port, absl::Duration timeout = absl::Seconds(30)) {
  HealthCheckConfig config;
  config.type = HealthCheckType::kTcp;
  config.host = host;
  config.port = port;
  config.timeout = timeout;
  return config;
}

size_t ThreadCount() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    ++count;
  }
  return count;
}

void AllowDescriptors(rlim_t count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min(limit.rlim_max, std::max(limit.rlim_cur, count));
  setrlimit(RLIMIT_NOFILE, &limit);
}

// A resolver that hangs until it is let go. Held together with its threads, which outlive the checker.
class HangingLookup {
 public:
  ~HangingLookup() { Release(); }
  HangingLookup() = default;
  HangingLookup(const HangingLookup&) = delete;
  HangingLookup& operator=(const HangingLookup&) = delete;

  Checker::Options Options() const {
    Checker::Options options;
    options.lookup = [state = state_](const std::string& host) -> absl::StatusOr<AddressList> {
      if (host.starts_with("good")) {
        return *AddressesWithoutLookup("127.0.0.1");
      }
      std::unique_lock lock(state->mutex);
      ++state->hanging;
      state->changed.notify_all();
      state->changed.wait(lock, [&] { return state->released; });
      return absl::UnavailableError("released");
    };
    return options;
  }
  void AwaitHanging(int count) const {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [&] { return state_->hanging >= count; });
  }
  void Release() const {
    const std::lock_guard lock(state_->mutex);
    state_->released = true;
    state_->changed.notify_all();
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    int hanging = 0;
    bool released = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

TEST(Checker, NeedsNoThreadBeforeTheFirstCheck) {
  const size_t before = ThreadCount();
  const Checker checker;
  EXPECT_EQ(ThreadCount(), before);
}

TEST(Checker, NoCheckConfigured) {
  Checker checker;
  const CheckResult result = RunCheck(checker, HealthCheckConfig{});
  EXPECT_FALSE(result.success);
  EXPECT_EQ(result.message, "no health check is configured");
}

TEST(Checker, CancelledChecksTellNothing) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  TinyServer good(Answer(Response(200, "")));
  Results results;
  Checker checker;
  const uint64_t check = checker.Start(Http(server.Url()), {}, results.Collect(1));
  while (server.connections() == 0) {
    usleep(1000);
  }
  checker.Cancel(check);
  checker.Cancel(check);
  checker.Cancel(12345);
  const uint64_t answered = checker.Start(Http(good.Url()), {}, results.Collect(2));
  EXPECT_TRUE(results.Await(2).success);
  checker.Cancel(answered);
  EXPECT_EQ(results.count(), 1u);
}

TEST(Checker, CancelOfWhatNeverStarted) {
  Checker checker;
  checker.Cancel(1);
}

TEST(Checker, CallbacksMayStartAndCancelChecks) {
  TinyServer server(Answer(Response(200, "")));
  Results results;
  Checker checker;
  uint64_t own = 0;
  std::mutex mutex;
  {
    const std::lock_guard lock(mutex);
    own = checker.Start(Http(server.Url()), {}, [&](const CheckResult&) {
      const std::lock_guard inner(mutex);
      checker.Cancel(own);
      checker.Start(Http(server.Url()), {}, results.Collect());
    });
  }
  EXPECT_TRUE(results.Await().success);
}

TEST(Checker, StartAndCancelFromManyThreads) {
  TinyServer server(Answer(Response(200, "")));
  Checker checker;
  std::atomic<int> told = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const HealthCheckConfig config = i % 2 == 0 ? Http(server.Url()) : Tcp("127.0.0.1", server.port());
        const uint64_t check = checker.Start(config, {}, [&](const CheckResult&) { ++told; });
        if ((i + t) % 3 == 0) {
          checker.Cancel(check);
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_TRUE(RunCheck(checker, Http(server.Url())).success);
  EXPECT_LE(told, 200);
}

// 500 checks that hang, half of them in HTTP, and one that does not.
TEST(Checker, HangingChecksDelayNoOther) {
  constexpr int kHanging = 500;
  AllowDescriptors(4 * kHanging);
  // Never accepts: the kernel completes the connections by itself.
  TinyServer hanging([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  TinyServer good(Answer(Response(200, "fine")));
  Results results;
  auto checker = std::make_unique<Checker>();
  HealthCheckConfig banner = Tcp("127.0.0.1", hanging.port());
  banner.expected_content = "never";
  for (int i = 0; i < kHanging; ++i) {
    checker->Start(i % 2 == 0 ? Http(hanging.Url()) : banner, {}, results.Collect(i));
  }
  while (hanging.connections() < kHanging) {
    usleep(1000);
  }
  double best_ms = 1e9;
  for (int i = 0; i < 3; ++i) {  // the best of three: the machine may be busy
    const CheckResult result = RunCheck(*checker, Http(good.Url()));
    EXPECT_TRUE(result.success) << result.message;
    best_ms = std::min(best_ms, result.response_time_ms);
  }
  EXPECT_LT(best_ms, 100);
  EXPECT_EQ(results.count(), 0u);
  const MonoTime before = MonotonicNow();
  checker.reset();
  EXPECT_LT(MonotonicNow() - before, absl::Seconds(10));
  EXPECT_EQ(results.count(), 0u);
}

TEST(Checker, AllTimeoutsAreKept) {
  constexpr int kHanging = 300;
  AllowDescriptors(4 * kHanging);
  TinyServer hanging([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  Results results;
  Checker checker;
  for (int i = 0; i < kHanging; ++i) {
    checker.Start(Http(hanging.Url(), absl::Milliseconds(500)), {}, results.Collect(i));
  }
  ASSERT_EQ(results.AwaitCount(kHanging), static_cast<size_t>(kHanging));
  for (int i = 0; i < kHanging; ++i) {
    EXPECT_THAT(results.Await(i).message, StartsWith("timed out after 500 ms"));
    EXPECT_LT(results.Await(i).response_time_ms, 5000);
  }
}

TEST(Checker, HangingResolver) {
  const HangingLookup lookup;
  TinyServer good(Answer(Response(200, "fine")));
  auto checker = std::make_unique<Checker>(lookup.Options());
  HealthCheckConfig by_name = Http(fmt::format("http://good.test:{}/", good.port()));
  Results results;
  constexpr int kHanging = 100;
  for (int i = 0; i < kHanging; ++i) {
    // Ten names, each asked for by ten checks.
    const std::string host = fmt::format("hang{}.test", i % 10);
    checker->Start(
        i % 2 == 0 ? Http("http://" + host + "/", absl::Milliseconds(300)) : Tcp(host, 80, absl::Milliseconds(300)), {},
        results.Collect(i));
  }
  lookup.AwaitHanging(10);
  EXPECT_TRUE(RunCheck(*checker, Http(good.Url())).success);
  const CheckResult named = RunCheck(*checker, by_name);
  EXPECT_TRUE(named.success) << named.message;
  ASSERT_EQ(results.AwaitCount(kHanging), static_cast<size_t>(kHanging));
  EXPECT_EQ(results.Await(0).message, "timed out after 300 ms (resolving hang0.test)");
  EXPECT_EQ(results.Await(1).message, "timed out after 300 ms (resolving hang1.test)");
  checker->Start(Http("http://hang11.test/"), {}, results.Collect(1000));
  lookup.AwaitHanging(11);
  const MonoTime before = MonotonicNow();
  checker.reset();
  EXPECT_LT(MonotonicNow() - before, absl::Seconds(10));
}

// A name that a redirect leads to is looked up in the same way.
TEST(Checker, RedirectToAHangingName) {
  const HangingLookup lookup;
  TinyServer server(Answer(Response(302, "", "Location: http://hang.test/\r\n")));
  Checker checker(lookup.Options());
  EXPECT_EQ(RunCheck(checker, Http(server.Url(), absl::Milliseconds(300))).message,
            "timed out after 300 ms (resolving hang.test)");
}

TEST(Checker, OutOfDescriptorsIsNotTheServicesFault) {
  TinyServer server(Answer(Response(200, "")));
  Checker checker;
  ASSERT_TRUE(RunCheck(checker, Http(server.Url())).success);  // all is loaded by now
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  for (const HealthCheckConfig& config : {Http(server.Url()), Tcp("127.0.0.1", server.port())}) {
    Results results;
    rlimit none = before;
    none.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &none);
    checker.Start(config, {}, results.Collect());
    HealthCheckConfig short_one = config;
    short_one.timeout = absl::Milliseconds(250);
    const CheckResult failed = RunCheck(checker, short_one);
    setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_THAT(failed.message, HasSubstr("this daemon cannot make a socket: too many open files"));
    // The server's accept needs descriptors as well, so only now is there an answer.
    EXPECT_THAT(results.Await().message, testing::Not(HasSubstr("too many")));
  }
}

TEST(Checker, GrpcWithoutAProbe) {
  Checker checker;
  HealthCheckConfig config;
  config.type = HealthCheckType::kGrpc;
  EXPECT_EQ(RunCheck(checker, config).message, "this supervisord was built without gRPC checks: use type http or tcp");
}

TEST(Checker, GrpcProbe) {
  std::atomic<int> cancelled = 0;
  std::mutex mutex;
  std::vector<std::function<void(Checker::GrpcAnswer)>> pending;
  std::vector<std::string> asked;
  Checker checker;
  checker.SetGrpcProbe([&](const Checker::GrpcRequest& request, std::function<void(Checker::GrpcAnswer)> done) {
    const std::lock_guard lock(mutex);
    asked.push_back(request.address + " " + request.authority);
    if (request.service == "hang") {
      pending.push_back(std::move(done));
    } else if (request.address.starts_with("ipv4:")) {
      done({.success = false, .connected = false, .message = "connection refused"});
    } else {
      done({.success = true, .message = "SERVING"});
      done({.success = false, .message = "again"});
    }
    return [&] { ++cancelled; };
  });
  HealthCheckConfig config;
  config.type = HealthCheckType::kGrpc;
  config.host = "localhost";
  config.port = 50051;
  const CheckResult good = RunCheck(checker, config);
  EXPECT_TRUE(good.success);
  EXPECT_THAT(good.message, testing::StartsWith("SERVING in "));
  // Nobody at the first address of localhost: the second is asked.
  EXPECT_THAT(asked, testing::ElementsAre("ipv4:127.0.0.1:50051 localhost:50051", "ipv6:[::1]:50051 localhost:50051"));
  config.host = "127.0.0.1";
  const CheckResult refused = RunCheck(checker, config);
  EXPECT_FALSE(refused.success);
  EXPECT_FALSE(refused.timed_out);
  EXPECT_EQ(refused.message, "connection refused (ipv4:127.0.0.1:50051)");
  config.service = "hang";
  config.unix_socket = "/run/server.sock";
  config.timeout = absl::Milliseconds(200);
  const CheckResult hung = RunCheck(checker, config);
  EXPECT_TRUE(hung.timed_out);
  EXPECT_EQ(hung.message, "timed out after 200 ms (waiting for an answer from unix:/run/server.sock)");
  {
    const std::lock_guard lock(mutex);
    ASSERT_EQ(pending.size(), 1u);
    pending[0]({.success = true, .message = "late"});
  }
  while (cancelled < 4) {
    usleep(1000);
  }
}

}  // namespace
}  // namespace supervisor
