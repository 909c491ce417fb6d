#pragma once

#include <google/protobuf/repeated_field.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace supervisor {

// Returns the targets of a request, each once, in their order. The loop looks targets up, so this function bounds them
// first, on the caller's thread: InvalidArgument where there are too many, NotFound where one is longer than any name.
// Pure; any thread.
absl::StatusOr<std::vector<std::string>> BoundedTargets(const google::protobuf::RepeatedPtrField<std::string>& targets);

inline constexpr size_t kLongestTarget = 256;
inline constexpr size_t kMostTargets = 20'000;  // names and groups: one for each instance, and more
inline constexpr size_t kMostGlobs = 100;       // each is compared with each instance

}  // namespace supervisor
