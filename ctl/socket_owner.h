#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "ctl/failure.h"

namespace supervisor {

// Whether the daemon at the other end of a connected socket is one to talk to: whoever listens there reads the
// commands, and answers what he likes. Known from the kernel (SO_PEERCRED of unix(7): the user who called listen(2)).
//
//   root or the caller himself            yes
//   another user, at the default path     no: nobody named it
//   another user, at a path that the      yes for root. For others yes, unless he could have put it there unasked: what
//   caller named                          lies directly in a sticky directory (as /tmp) belongs to root or the caller
std::optional<Failure> CheckSocketOwner(int fd, const std::string& socket, bool socket_is_default);

}  // namespace supervisor
