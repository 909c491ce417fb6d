#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "common/paths.h"
#include "common/unique_fd.h"
#include "daemon/process/birth_journal.h"
#include "daemon/process/held_descriptors.h"

namespace supervisor {

// Where guardian and daemon before us were killed together: what their keeper has open (daemon/guardian/keeper.h) is
// held for us from here on, and the keeper ends. `own_keeper`: the pid of ours. Returns the FIFOs that `held` could not
// take, to be open until the log pump has them.
std::vector<UniqueFd> TakeOverFromKeepers(const RuntimePaths& paths, pid_t own_keeper, HeldDescriptors& held);

// Null, and said in the log, where there can be none.
std::unique_ptr<BirthJournal> OpenBirths(const std::string& file);

}  // namespace supervisor
