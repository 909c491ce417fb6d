#include "daemon/config/config_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "daemon/config/config_file.h"

namespace supervisor {

ConfigSource::ConfigSource(std::string file, std::string text, size_t order, const std::string& directory)
    : file_(std::move(file)),
      directory_(directory.empty() ? DirectoryOf(file_) : directory),
      text_(std::move(text)),
      order_(order),
      lines_(text_) {}

std::string ConfigSource::PlaceName(size_t offset) const {
  const TextPosition at = PositionOf(offset);
  return fmt::format("{}:{}:{}", file_, at.line, at.column);
}

void ErrorList::Add(Entry entry) {
  if (full()) {
    ++omitted_;
    return;
  }
  entries_.push_back(std::move(entry));
}

void ErrorList::Add(const ConfigSource& source, size_t offset, std::string path, std::string message) {
  const TextPosition at = source.PositionOf(offset);
  Add({source.order(), ConfigError{.file = source.file(),
                                   .line = at.line,
                                   .column = at.column,
                                   .path = std::move(path),
                                   .message = std::move(message)}});
}

void ErrorList::AddFile(const std::string& file, size_t order, std::string message) {
  Add({order, ConfigError{.file = file, .line = 0, .column = 0, .path = "", .message = std::move(message)}});
}

std::vector<ConfigError> ErrorList::Take() {
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.order, a.error.line, a.error.column) < std::tie(b.order, b.error.line, b.error.column);
  });
  std::vector<ConfigError> errors;
  errors.reserve(entries_.size() + 1);
  for (Entry& entry : entries_) {
    errors.push_back(std::move(entry.error));
  }
  if (omitted_ > 0) {
    ConfigError last{.file = errors.back().file, .line = 0, .column = 0, .path = "", .message = ""};
    last.message = fmt::format("{} more errors are not listed (correct these first)", omitted_);
    errors.push_back(std::move(last));
  }
  entries_.clear();
  return errors;
}

}  // namespace supervisor
