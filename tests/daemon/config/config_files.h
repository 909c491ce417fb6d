#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/config/load.h"

namespace supervisor {

// A directory with configuration files, removed at the end.
class ConfigFiles {
 public:
  ConfigFiles();
  ~ConfigFiles();
  ConfigFiles(const ConfigFiles&) = delete;
  ConfigFiles& operator=(const ConfigFiles&) = delete;

  const std::string& directory() const { return directory_; }
  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }
  const std::string& main_file() const { return main_file_; }

  // Returns the path. Directories on the way are made.
  std::string Write(const std::string& name, const std::string& text) const;

  // Loads `text` as the main file, with this environment alone.
  LoadedConfig Load(const std::string& text, const std::map<std::string, std::string>& environment = {}) const;

  // What Load finds wrong, each without the "FILE:" before it, or with it where it stands in another file.
  std::vector<std::string> Errors(const std::string& text,
                                  const std::map<std::string, std::string>& environment = {}) const;

 private:
  std::string directory_;
  std::string main_file_;
};

// As text for EXPECT_EQ.
std::string Joined(const std::vector<std::string>& lines);

// A configuration that uses every key, each with a value that is not the default.
std::string FullConfig();

}  // namespace supervisor
