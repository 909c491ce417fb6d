#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/load.h"

namespace supervisor {

// ${NAME}, ${NAME:-default}, ${INSTANCE} and $${ in the strings of a configuration. Pure; any thread.
//
// ${INSTANCE} differs by instance and so outlives loading. A string that may hold one is kept in *instance form*:
//   ${INSTANCE}     the instance number
//   ${$$INSTANCE}   as many dollars as stand there, then the instance number
//   $${             the text ${
// and everything else stands for itself. Text that came from the environment is never read a second time, whatever it
// holds: KeepLiteral escapes it. (The form with dollars is what makes that so: a value ending in "$" before an
// ${INSTANCE} would otherwise read as an escape.)

struct InterpolationProblem {
  size_t offset = 0;  // into the text
  std::string message;
};

struct Interpolated {
  std::string text;                            // with the problems' places left empty
  std::vector<InterpolationProblem> problems;  // unset variables, bad names, unterminated ${
};

enum class InstanceRule {
  kKeep,    // a service's string: the result is in instance form
  kRefuse,  // elsewhere there are no instances: ${INSTANCE} is an error, the result is plain text
};

Interpolated Interpolate(std::string_view text, const EnvironmentLookup& environment, InstanceRule rule);

// The instance form of plain text.
std::string KeepLiteral(std::string_view text);

// The plain text of an instance form, for one instance.
std::string ReplaceInstance(std::string_view instance_form, int instance);

}  // namespace supervisor
