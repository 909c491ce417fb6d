#pragma once

#include <string>
#include <vector>

#include "daemon/config/config_source.h"
#include "daemon/config/json_value.h"
#include "daemon/config/load.h"

namespace supervisor {

// Finds the keys of services in the files of a configuration that was loaded without errors, for remarks about values
// that are right in themselves: a command that does not exist, say. One thread.
class KeyPlaces {
 public:
  explicit KeyPlaces(const std::vector<ConfigText>& texts);

  // A message about the value at `keys` below the service ({"hooks", "pre_start", "command"}), with its place. Where
  // the file leaves out a key, so that its default holds, the place is that of what would hold it.
  ConfigError At(const std::string& service, const std::vector<std::string>& keys, std::string message) const;

 private:
  struct File {
    ConfigSource source;
    JsonValue root;
  };
  std::vector<File> files_;
};

}  // namespace supervisor
