#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

// One thing wrong with the configuration, where and what.
struct ConfigError {
  std::string file;
  int line = 0;      // from 1; 0: the file as a whole
  int column = 0;    // from 1, in bytes
  std::string path;  // "services.web.port"; empty: the document
  std::string message;

  // "FILE:LINE:COLUMN: path.to.key: what is wrong (what was expected)"
  std::string ToString() const;
};

// One file of the configuration as it was read.
struct ConfigText {
  std::string path;  // absolute
  std::string text;
  bool operator==(const ConfigText&) const = default;
};

struct LoadedConfig {
  std::optional<Config> config;     // only where there is no error
  std::vector<ConfigError> errors;  // all of them, by file and position
  std::vector<ConfigText> texts;    // likewise: the main file, then those that it includes
};

// Looks up a variable of the daemon's environment; nothing where it is unset.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string&)>;

// Reads the file and what it includes, and checks all of it: syntax, unknown and duplicate keys, types, ranges,
// references between services. Reads files, nothing else; starts and changes nothing. Any thread.
//
// A relative path refers to the directory of the file in which it is written, an included file too; a command is a path
// where it holds a slash. Run by root, a file that another user could have written is refused.
LoadedConfig LoadConfig(const std::string& file, const EnvironmentLookup& environment);
LoadedConfig LoadConfig(const std::string& file);  // with getenv(3)

// The same of texts that were read before: nothing is looked for on the disk.
LoadedConfig LoadConfig(std::vector<ConfigText> texts, const EnvironmentLookup& environment);
LoadedConfig LoadConfig(std::vector<ConfigText> texts);

// Only global.socket, for --stop and --status, which must work with a file that has errors elsewhere. Nothing where
// the file can't be read or parsed, or names none.
std::optional<std::string> LoadSocketPath(const std::string& file);

}  // namespace supervisor
