#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace supervisor {

// One address of a mail with the name that is shown for it (RFC 5322, section 3.4).
struct Mailbox {
  std::string name;  // as people write it, unquoted; empty: none
  std::string address;
};

// Reads "a@b", "<a@b>", "Name <a@b>" and "\"Last, First\" <a@b>". A failure's message is a sentence for
// ConfigError::message. Pure; any thread.
absl::StatusOr<Mailbox> ParseMailbox(std::string_view text);

}  // namespace supervisor
