#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

// Which channel of a new configuration goes on with what waits for one of the old: the same one; else the one that has
// its label (a token was corrected); else, where of its type one went and one came, that one (it is at another host
// now). For each of `before` the place in `after`, no place twice; none: nobody does. Both who sends and who keeps what
// is owed go by it. Pure.
std::vector<std::optional<size_t>> ChannelSuccessors(const std::vector<ChannelConfig>& before,
                                                     const std::vector<ChannelConfig>& after);

// The same by label: for each of `before` the label in `after`, empty: nobody goes on with it.
std::map<std::string, std::string> SuccessorLabels(const std::vector<ChannelConfig>& before,
                                                   const std::vector<ChannelConfig>& after);

}  // namespace supervisor
