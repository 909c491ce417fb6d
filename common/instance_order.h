#pragma once

#include <string_view>

namespace supervisor {

// The order in which lists show instances: by service, then by number, so that "w:2" comes before "w:10".
struct InstanceIdLess {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const {
    const std::string_view a_service = a.substr(0, a.find(':'));
    const std::string_view b_service = b.substr(0, b.find(':'));
    if (a_service != b_service) {
      return a_service < b_service;
    }
    // Numbers have no leading zeros, so the longer one is larger.
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  }
};

}  // namespace supervisor
