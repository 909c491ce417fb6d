#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ctl/command_table.h"

namespace supervisor {

// What people type because other programs taught them to: translated where it has a meaning here, else answered with
// what to type instead. Pure.

// Translates "logs web -5" (tail, head) to "-n 5" and "signal -9 web" (kill) to "signal 9 web". `arguments` are the
// command's own, without its name.
std::vector<std::string> TranslateHabits(const CommandSpec& spec, const std::vector<std::string>& arguments);

// What to say of an option before the command that other programs have and this one has not ("-c FILE status"); nothing
// where `argument` is no such option.
std::optional<std::string> HintForOption(const std::string& argument);

// What to say of a target that cannot name anything ("web,db"); nothing where it can.
std::optional<std::string> HintForTarget(const std::string& target);

}  // namespace supervisor
