#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/file_trust.h"
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

struct LoadOptions {
  FileTrust trust = FileTrust::kStrict;
  // To which relative paths in the main file refer; empty: its directory. For a configuration from standard input,
  // which has none.
  std::string directory = {};
  // Taken for the main file's text, which is not read then: standard input can be read once.
  std::optional<std::string> main_text = {};
};

// Reads the file and what it includes, and checks all of it: syntax, unknown and duplicate keys, types, ranges,
// references between services. Reads files, nothing else; starts and changes nothing. Any thread.
//
// A relative path refers to the directory of the file in which it is written, an included file too; a command is a path
// where it holds a slash. A file that another user could have written is refused, see common/trusted_path.h.
LoadedConfig LoadConfig(const std::string& file, const EnvironmentLookup& environment, const LoadOptions& options = {});
LoadedConfig LoadConfig(const std::string& file, const LoadOptions& options = {});  // with getenv(3)

// The same of texts that were read before: nothing is looked for on the disk.
LoadedConfig LoadConfig(std::vector<ConfigText> texts, const EnvironmentLookup& environment,
                        const LoadOptions& options = {});
LoadedConfig LoadConfig(std::vector<ConfigText> texts, const LoadOptions& options = {});

// Only global.socket, for --stop and --status, which must work with a file that has errors elsewhere, and, with
// FileTrust::kAny, also after someone spoilt its mode: no command comes from it. Nothing where the file can't be read,
// trusted or parsed, or names none.
std::optional<std::string> LoadSocketPath(const std::string& file, const LoadOptions& options);

}  // namespace supervisor
