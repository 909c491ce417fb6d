#include "daemon/logs/log_remains.h"

#include <dirent.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <memory>
#include <string_view>

namespace supervisor {
namespace {

bool TakeNumber(std::string_view& text) {
  const auto end = std::ranges::find_if(text, [](unsigned char c) { return std::isdigit(c) == 0; });
  const auto count = static_cast<size_t>(end - text.begin());
  text.remove_prefix(count);
  return count > 0;
}

bool TakePrefix(std::string_view& text, std::string_view prefix) {
  const bool has = text.starts_with(prefix);
  text.remove_prefix(has ? prefix.size() : 0);
  return has;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

int NumberOf(const std::string& id) {
  const size_t colon = id.rfind(':');
  int number = -1;
  if (colon != std::string::npos) {
    std::from_chars(id.data() + colon + 1, id.data() + id.size(), number);
  }
  return number;
}

}  // namespace

std::string InstanceOfLogFile(const std::string& file_name, const std::string& name, bool is_stderr) {
  std::string_view rest = file_name;
  if (!TakePrefix(rest, name)) {
    return "";
  }
  if (name.find(':') == std::string::npos && TakePrefix(rest, ":") && !TakeNumber(rest)) {
    return "";
  }
  const std::string id = file_name.substr(0, file_name.size() - rest.size());
  if (!TakePrefix(rest, is_stderr ? ".err.log" : ".log")) {
    return "";
  }
  if (TakePrefix(rest, ".")) {
    if (!TakeNumber(rest)) {
      return "";
    }
    TakePrefix(rest, ".gz");
  }
  return rest.empty() ? id : "";
}

std::vector<std::string> FindLogRemains(const std::string& directory, const std::string& name, bool is_stderr) {
  std::vector<std::string> ids;
  const std::unique_ptr<DIR, CloseDirectory> entries(opendir(directory.c_str()));
  // One reader of this DIR: readdir(3) is safe then.
  while (const dirent* entry = entries ? readdir(entries.get()) : nullptr) {  // NOLINT(concurrency-mt-unsafe)
    std::string id = InstanceOfLogFile(entry->d_name, name, is_stderr);
    if (!id.empty() && std::ranges::count(ids, id) == 0) {
      ids.push_back(std::move(id));
    }
  }
  std::ranges::sort(ids, {}, NumberOf);
  return ids;
}

}  // namespace supervisor
