#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/config/config.h"
#include "daemon/health/checker.h"
#include "daemon/health/content_matcher.h"
#include "daemon/health/curl_driver.h"
#include "daemon/health/killer_thread.h"
#include "daemon/health/orderly_close.h"
#include "daemon/health/process_looks.h"
#include "daemon/health/resolver.h"
#include "daemon/health/script_start.h"
#include "daemon/health/start_gate.h"
#include "daemon/loop/helper_pool.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// What the probes of one checker share. Lives as long as its loop runs; every probe is destroyed before it.
struct ProbeTools {
  Loop& loop;
  std::shared_ptr<LoopMailbox> mailbox;
  Resolver& resolver;
  CurlDriver& curl;
  OrderlyClose& closer;  // of connections whose other end may still speak
  HelperPool& pool;      // for what takes long
  HelperPool& starters;  // for what may hang: the start of a script, a look at a process's memory
  StartGate& gate;       // for what brings up a process
  KillerThread& killer;
  std::shared_ptr<ScriptStarter> scripts;
  std::shared_ptr<ProcessLooks> looks;
};

struct ProbeOutcome {
  bool success = false;
  std::string message;
  bool timed_out = false;
  // Where the check took less time than telling of it did: a script's, without the killing of what it left behind.
  std::optional<absl::Duration> took = std::nullopt;
};

// One check under way. Loop thread. Destroyed when it has finished, and before that when it is cancelled.
class Probe {
 public:
  // Called once. The probe is destroyed on a later turn.
  using Finish = std::function<void(ProbeOutcome)>;

  Probe() = default;
  virtual ~Probe() = default;
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  virtual void Begin() = 0;
  // The timeout has passed: finishes now, or as soon as it has cleaned up.
  virtual void DeadlinePassed() = 0;
};

struct ProbeRequest {
  HealthCheckConfig config;
  CheckTarget target;
  Probe::Finish finish;
  std::function<void()> begins;  // its turn has come only now: the timeout and the response time count from here
};

std::unique_ptr<Probe> NewHttpProbe(ProbeTools& tools, ProbeRequest request);
std::unique_ptr<Probe> NewTcpProbe(ProbeTools& tools, ProbeRequest request);
std::unique_ptr<Probe> NewProcessProbe(ProbeTools& tools, ProbeRequest request);
std::unique_ptr<Probe> NewScriptProbe(ProbeTools& tools, ProbeRequest request);
std::unique_ptr<Probe> NewGrpcProbe(ProbeTools& tools, ProbeRequest request, Checker::GrpcProbe probe);

// Tells what the content lacks (nothing: it matches), at once when that is quick, else from a helper thread on a later
// turn, if `wanted` has not expired by then.
void JudgeContent(ProbeTools& tools, const std::shared_ptr<ContentMatcher>& matcher, const std::string& subject,
                  const std::weak_ptr<const void>& wanted, const std::function<void(std::optional<std::string>)>& told);

}  // namespace supervisor
