#pragma once

#include <set>
#include <string>
#include <string_view>

#include "daemon/service/environment.h"

namespace supervisor {

// What a service says of itself (its last lines, its checks' and hooks' output, its STATUS=) ends up where more people
// read than in its log: in answers, in the database, in notifications. The secrets of its environment do not: each is
// replaced by asterisks.
//
// A value is secret when its name says so (TOKEN, PASSWORD, ...), when it says so itself ("canary", "secret"), when it
// is the password in a URL, or when it looks drawn at random.
class SecretMask {
 public:
  // Adds to what is known: what an earlier run was started with may still be in the log.
  void Learn(const Environment& environment);
  // Likewise from an environment file, which a daemon that has not started the service itself has not read; "" and one
  // that cannot be read teach nothing. Blocks on the disk.
  void LearnFile(const std::string& environment_file);

  // Also of what a cut at either end, or at "...", has left of one.
  std::string Hide(std::string text) const;

  bool empty() const { return secrets_.empty(); }

 private:
  void Add(std::string_view secret);

  // The longer one first, so that nothing is left of one that begins with another.
  struct LongerFirst {
    bool operator()(const std::string& a, const std::string& b) const {
      return a.size() != b.size() ? a.size() > b.size() : a < b;
    }
  };
  std::set<std::string, LongerFirst> secrets_;
};

}  // namespace supervisor
