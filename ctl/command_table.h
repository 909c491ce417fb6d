#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "ctl/invocation.h"

namespace supervisor {

// What each command is called, takes and does: parsing and help are made of this one table.

enum class Targets {
  kNone,
  kAny,   // none means all
  kSome,  // at least one: what acts is never meant for all by omission
  kOne,
  kSignalThenSome,
};

// The options a command takes beside the global ones; a set of bits.
enum OptionBit : uint32_t {
  kOptNoWait = 1U << 0U,
  kOptTimeout = 1U << 1U,
  kOptReason = 1U << 2U,
  kOptFollow = 1U << 3U,
  kOptCount = 1U << 4U,
  kOptSince = 1U << 5U,
  kOptUntil = 1U << 6U,
  kOptGrep = 1U << 7U,
  kOptStderr = 1U << 8U,
  kOptDryRun = 1U << 9U,
  kOptAll = 1U << 10U,
  kOptType = 1U << 11U,
  kOptTest = 1U << 12U,
  kOptWithDependents = 1U << 13U,
  kOptRaw = 1U << 14U,
};

struct CommandSpec {
  Command command;
  std::string_view name;
  std::string_view summary;      // a line in the list of commands
  std::string_view description;  // in the command's own help
  std::string_view examples;     // lines, each indented by two
  Targets targets;
  uint32_t options;
  std::string_view count_help;  // what -n means here
};

std::span<const CommandSpec> AllCommands();
const CommandSpec* FindCommand(std::string_view name);

}  // namespace supervisor
