#include "daemon/rpc/request_targets.h"

#include <fmt/format.h>

#include <unordered_set>

#include "common/glob_match.h"

namespace supervisor {

absl::StatusOr<std::vector<std::string>> BoundedTargets(
    const google::protobuf::RepeatedPtrField<std::string>& targets) {
  std::vector<std::string> bounded;
  std::unordered_set<std::string_view> seen;  // borrowed from the request
  size_t globs = 0;
  for (const std::string& target : targets) {
    if (target.size() > kLongestTarget) {
      size_t end = kLongestTarget;
      while ((static_cast<unsigned char>(target[end]) & 0xc0) == 0x80) {  // in the midst of a UTF-8 character
        --end;
      }
      return absl::NotFoundError(
          fmt::format("no such service: {}... (a target has at most {} bytes)", target.substr(0, end), kLongestTarget));
    }
    if (!seen.insert(target).second) {
      continue;
    }
    globs += IsGlob(target) ? 1 : 0;
    bounded.push_back(target);
    if (bounded.size() > kMostTargets) {
      return absl::InvalidArgumentError(fmt::format(
          "too many targets (expected at most {}; a glob, @group or all names many at once)", kMostTargets));
    }
    if (globs > kMostGlobs) {
      return absl::InvalidArgumentError(
          fmt::format("too many targets with wildcards (expected at most {})", kMostGlobs));
    }
  }
  return bounded;
}

}  // namespace supervisor
