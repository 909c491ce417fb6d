#pragma once

#include <memory>

#include "common/unique_fd.h"

namespace supervisor {

// Closes a Unix socket whose queue may hold a stranger's descriptors, and returns without having waited for any of
// them. Where it is their last reference, to close them may take as long as their maker likes: a TCP socket with
// SO_LINGER waits for its other end. "If the close is due to the process exiting, we never linger" (inet_release() in
// Linux's net/ipv4/af_inet.c), and a thread's exit counts as that. Hence a thread with a descriptor table of its own
// (unshare(2), CLONE_FILES) takes along what lies there, and ends.
//
// The queue is empty then, for whoever else has the socket open. A socket that refuses descriptors is just closed.
// Any thread.
void CloseAside(UniqueFd socket);

// A socket that is closed like that when its last owner goes.
std::shared_ptr<UniqueFd> ClosedAside(UniqueFd socket);

}  // namespace supervisor
