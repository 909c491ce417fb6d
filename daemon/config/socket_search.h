#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/load.h"

namespace supervisor {

// What a configuration file says of global.socket, for --stop and --status: they must find the daemon also after
// somebody has spoilt the file. The file is read unchecked, since no command comes from it.
struct SocketSearch {
  enum class Outcome {
    kNamed,       // plainly: `sockets` holds that one
    kNotNamed,    // the file is JSON and names none, so the default path applies
    kGuessed,     // the file is no JSON, or holds a key twice: `sockets` holds what looks like it, the likeliest first
    kUnusable,    // the file is JSON, and what it names is no path: `trouble` says why
    kNoFile,      // there is no file of that name
    kUnreadable,  // there is one, or it cannot be told: `trouble` says why
  };
  Outcome outcome = Outcome::kNoFile;
  std::vector<std::string> sockets;  // absolute; may be empty with kGuessed
  std::string trouble;               // "PATH: what is wrong"; empty with kNamed and kNotNamed
};

SocketSearch SearchSocket(const std::string& file, const EnvironmentLookup& environment);
SocketSearch SearchSocket(const std::string& file);  // with getenv(3)

// The values of all members "socket" in a text that may be broken anywhere, as they are written there, without
// duplicates; those directly in a "global" object come first. Pure.
std::vector<std::string> GuessSockets(std::string_view text);

}  // namespace supervisor
