#include "daemon/config/key_places.h"

#include <utility>

#include "daemon/config/json_parser.h"
#include "daemon/config/message_text.h"

namespace supervisor {

KeyPlaces::KeyPlaces(const std::vector<ConfigText>& texts) {
  for (size_t order = 0; order < texts.size(); ++order) {
    ConfigSource source(texts[order].path, texts[order].text, order);
    ParsedJson parsed = ParseJson(source.text());
    if (parsed.root) {
      files_.push_back({std::move(source), *std::move(parsed.root)});
    }
  }
}

ConfigError KeyPlaces::At(const std::string& service, const std::vector<std::string>& keys, std::string message) const {
  ConfigError error{.file = {}, .line = 0, .column = 0, .path = KeyPath("services", service), .message = {}};
  for (const std::string& key : keys) {
    error.path = KeyPath(error.path, key);
  }
  error.message = std::move(message);
  for (const File& file : files_) {
    const JsonMember* services = file.root.Find("services");
    const JsonMember* found = services == nullptr ? nullptr : services->value.Find(service);
    if (found == nullptr) {
      continue;
    }
    size_t offset = found->key_offset;
    for (const std::string& key : keys) {
      found = found->value.Find(key);
      if (found == nullptr) {
        break;
      }
      offset = found->value.offset;
    }
    const TextPosition at = file.source.PositionOf(offset);
    error.file = file.source.file();
    error.line = at.line;
    error.column = at.column;
    break;
  }
  return error;
}

}  // namespace supervisor
