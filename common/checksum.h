#pragma once

#include <cstdint>
#include <string_view>

namespace supervisor {

// FNV-1a, 64 bits: finds a torn file, not an attacker.
// http://www.isthe.com/chongo/tech/comp/fnv/
constexpr uint64_t Checksum(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace supervisor
