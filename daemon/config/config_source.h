#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/config/interpolate.h"
#include "daemon/config/json_parser.h"
#include "daemon/config/load.h"

namespace supervisor {

// One file of a configuration while it is being read.
class ConfigSource {
 public:
  // `order`: the main file is 0, included ones follow; errors are reported in this order.
  // `directory`: to which relative paths refer; empty: the file's own.
  ConfigSource(std::string file, std::string text, size_t order, const std::string& directory = {});

  const std::string& file() const { return file_; }
  const std::string& directory() const { return directory_; }  // to which relative paths in it refer
  const std::string& text() const { return text_; }
  size_t order() const { return order_; }
  TextPosition PositionOf(size_t offset) const { return lines_.At(offset); }
  // "FILE:LINE:COLUMN"
  std::string PlaceName(size_t offset) const;

 private:
  std::string file_;
  std::string directory_;
  std::string text_;
  size_t order_;
  LineIndex lines_;
};

// Collects what is wrong, from all files. One load owns it, on one thread.
class ErrorList {
 public:
  void Add(const ConfigSource& source, size_t offset, std::string path, std::string message);
  // For a file that cannot be read at all.
  void AddFile(const std::string& file, size_t order, std::string message);

  bool empty() const { return entries_.empty(); }
  // Nobody reads that many; a file of rubbish must not cost minutes of looking for near misses.
  bool full() const { return entries_.size() >= kMost; }

  // By file and position.
  std::vector<ConfigError> Take();

 private:
  static constexpr size_t kMost = 5000;
  struct Entry {
    size_t order = 0;
    ConfigError error;
  };
  void Add(Entry entry);

  std::vector<Entry> entries_;
  size_t omitted_ = 0;
};

// What reading a value needs beside the value.
struct ReadContext {
  const ConfigSource& source;
  const EnvironmentLookup& environment;
  ErrorList& errors;
  InstanceRule instance_rule = InstanceRule::kRefuse;
};

}  // namespace supervisor
