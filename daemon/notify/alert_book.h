#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "daemon/config/config.h"
#include "daemon/notify/alert.h"

namespace supervisor {

// What the rules see of an instance.
struct AlertSubject {
  enum class Standing {
    kDown,      // stopped, or ended as it should
    kComingUp,  // starting, stopping, waiting to be restarted
    kUp,        // running
    kFailed,    // gave up
  };
  enum class Verdict { kNoCheck, kUnknown, kHealthy, kUnhealthy };

  std::string id;
  std::string service_id;
  const std::vector<std::string>* depends_on = nullptr;  // of service ids; borrowed for the call
  bool critical = false;
  bool wanted = false;  // to be up
  Standing standing = Standing::kDown;
  Verdict verdict = Verdict::kNoCheck;
  std::optional<uint64_t> run;                // which of its runs it is in; none: it has no process
  std::optional<bool> exceeds_limit = false;  // a watched one, at the last look; none: nobody has looked yet
  std::string reason;                         // why it is in its state
};

// The same moment on both clocks: deadlines go by the one, records by the other.
struct AlertTime {
  MonoTime mono;
  absl::Time wall;
};

// Which alerts are open, and when one is raised or resolved. Pure: facts and the time come in, changes come out.
//
//   rule            raised when                                     resolved when
//   failed          it gave up                                      it runs, or somebody stopped it
//   unhealthy       its check's verdict says so                     the verdict is healthy, it is stopped or has failed
//   flapping        `restarts` restarts within `restarts_window`    there are fewer in the window, it is stopped
//   oom             the kernel killed some of it                    it has run for `restarts_window` since, it is
//   stopped limit_exceeded  it was over one of resource_limits              it has not been for `for`, it is stopped
//   cpu, memory     above the bound for `for`, in one run           not above it for `for`, in one run, it is stopped
//
// Where nothing can be said yet (after a restart of the daemon no check has run) an open alert stays open and a new one
// is not raised. Who depends, over however many others, on an instance that has one of the first three does not raise
// one of these of its own: it is listed under that one, and raises its own only if its trouble outlasts the cause.
class AlertBook {
 public:
  struct Change {
    enum class Kind {
      kRaised,
      kResolved,  // alert.resolved and alert.resolution say when and why
      kChanged,   // dependents were added
    };
    Kind kind = Kind::kRaised;
    Alert alert;
  };

  void SetRules(const AlertRulesConfig& rules) { rules_ = rules; }

  // What an earlier daemon left open, and the restarts that it saw (those that this one has seen must not be among
  // them). Until it was called Settle changes nothing, so that nothing is raised twice.
  struct Restart {
    std::string id;
    absl::Time at;
  };
  void Load(const std::vector<Alert>& open, const std::vector<Restart>& restarts, AlertTime now);
  bool loaded() const { return loaded_; }

  // What happened. Settle says what comes of it.
  void Restarted(const std::string& id, MonoTime now);
  void BecameUnhealthy(const std::string& id, const std::string& message);
  void RanOutOfMemory(const std::string& id, const std::string& message, MonoTime now);
  void ExceededLimit(const std::string& id, const std::string& message, MonoTime now);
  // `cpu_percent`: none where this sample has no rate.
  void Sampled(const std::string& id, uint64_t run, std::optional<double> cpu_percent, double memory_mb, MonoTime now);
  // Of the daemon itself, by rule: is so until `message` is empty.
  void SetOwn(const std::string& rule, Severity severity, const std::string& message);
  // Rules of the daemon itself that hold no more, whatever was known of them.
  void KeepOwnChannels(const std::set<std::string>& rules);

  std::vector<Change> Settle(const std::vector<AlertSubject>& subjects, AlertTime now);
  // When Settle may have something to say though nothing has happened; kNoDeadline: never.
  MonoTime NextLook() const { return next_look_; }

  using Alerts = std::map<std::pair<std::string, std::string>, Alert>;  // by service and rule
  const Alerts& open() const { return open_; }

 private:
  enum class Holds { kYes, kNo, kUndecided };
  struct Level {
    std::optional<uint64_t> run;  // that it was measured in; none: it was not yet
    bool over = false;
    MonoTime since;
    double last = 0;
  };
  struct Occurrence {
    MonoTime at;
    std::string message;
  };
  struct Tracked {
    std::deque<MonoTime> restarts;
    bool unhealthy = false;
    std::string unhealthy_message;
    std::optional<Occurrence> out_of_memory;
    std::optional<Occurrence> limit;
    Level cpu;
    Level memory;
  };
  struct Finding {
    Holds holds = Holds::kUndecided;
    std::string message = {};     // kYes
    std::string resolution = {};  // kNo
    std::string actor = {};
  };
  // One look at everything; see Settle.
  struct Look;

  Finding Failed(const AlertSubject& subject) const;
  Finding Unhealthy(const AlertSubject& subject, Tracked& tracked) const;
  Finding Flapping(const AlertSubject& subject, Tracked& tracked, MonoTime now);
  Finding OutOfMemory(const AlertSubject& subject, Tracked& tracked, MonoTime now);
  Finding LimitExceeded(const AlertSubject& subject, Tracked& tracked, MonoTime now);
  Finding Above(const AlertSubject& subject, const Level& level, std::string_view what, MonoTime now);
  Finding Judge(const AlertSubject& subject, std::string_view rule, Tracked& tracked, MonoTime now);
  static void NoteLevel(Level& level, uint64_t run, double value, double bound, MonoTime now);
  void LookAgain(MonoTime when);
  void SettleOwn(AlertTime now, std::vector<Change>& changes);
  void ResolveGone(const std::set<std::string>& ids, AlertTime now, std::vector<Change>& changes);
  void Resolve(const std::string& id, const std::string& rule, const std::string& why, AlertTime now,
               std::vector<Change>& changes);

  AlertRulesConfig rules_;
  bool loaded_ = false;
  std::map<std::string, Tracked> tracked_;
  Alerts open_;
  struct Own {
    Severity severity;
    std::string message;
  };
  std::map<std::string, Own> own_;  // known since this daemon began; "" is over
  MonoTime next_look_ = kNoDeadline;
};

}  // namespace supervisor
