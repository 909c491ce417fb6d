#pragma once

#include <map>
#include <set>
#include <string>

namespace supervisor {

// Which logs a follower that is itself a service (`supervisorctl logs all -f` as a command) may show. What it shows it
// writes to its own log, so a line that it has written would come back to it, and again, until the disk is full. The
// same holds over any number of services that follow one another. Pure.
//
// `follows` has for each instance that follows logs the instances it follows. Answers whether bytes that `caller`
// writes would reach the log of `source`, and from there `caller` again.
inline bool FeedsOnItself(const std::map<std::string, std::set<std::string>>& follows, const std::string& caller,
                          const std::string& source) {
  // Bytes of the caller reach the logs of all that follow it, of all that follow those, and so on: asked backwards.
  std::set<std::string> seen;
  std::set<std::string> next{source};
  while (!next.empty()) {
    const std::string id = *next.begin();
    next.erase(next.begin());
    if (id == caller) {
      return true;
    }
    if (!seen.insert(id).second) {
      continue;
    }
    if (const auto entry = follows.find(id); entry != follows.end()) {
      next.insert(entry->second.begin(), entry->second.end());
    }
  }
  return false;
}

}  // namespace supervisor
