#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/logs/forward_sink.h"
#include "daemon/logs/growth_hub.h"
#include "daemon/logs/log_reader.h"

namespace supervisor {

// Forwards logs line by line to standard output or the system's log (logs.forward). It is a follower like any other: it
// reads the files, on a thread of its own for each of the two places, so a place that is slow, full or gone holds up
// nothing else and costs no memory. What it has not taken waits in the log's files; what rotation deletes meanwhile is
// counted, and told in its place. How far it came is on disk (ForwardMark), and the next daemon goes on there.
class Forwarder {
 public:
  struct Spec {
    LogForward to = LogForward::kNone;
    std::string name;  // what its lines stand behind
    std::string log_file;
    std::string mark_file;
    // Where to begin if no mark says so: the log's end when it was opened. None: its end when it is there.
    std::optional<LogPosition> begin;
  };
  // The forwarder's threads call it with the number of bytes that rotation has deleted before they could be forwarded.
  // The number is 0 where it is not known, and then there may have been none.
  using MissedCallback = std::function<void(uint64_t bytes)>;

  Forwarder() = default;
  // Forwards what is there, for half a second at most. A thread that a place or a disk holds up is left behind.
  ~Forwarder();
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  // The pump's thread. The same stream again: another place or name, and it goes on where it was.
  void Set(const std::string& stream, const Spec& spec, const std::shared_ptr<GrowthHub>& hub, MissedCallback missed);
  // The pump's thread. What is in the log by now is still forwarded, unless that takes too long; the mark goes.
  void Remove(const std::string& stream);
  // The pump's thread. The log has another name, under which Set is called next: it goes on there where this one was,
  // since the mark lies at `mark_file` then.
  void GiveUpTo(const std::string& stream, const std::string& mark_file);

 private:
  class Lane;
  Lane* LaneFor(LogForward to);

  std::map<LogForward, std::shared_ptr<Lane>> lanes_;
  std::map<std::string, LogForward> streams_;
};

}  // namespace supervisor
