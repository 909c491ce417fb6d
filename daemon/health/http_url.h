#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/health/curl_api.h"

namespace supervisor {

// A URL as libcurl's own parser understands it, so that what is resolved is what is connected to.
struct HttpUrl {
  std::string url;     // absolute, normalised
  std::string scheme;  // "http" or "https"
  std::string host;    // as curl looks it up: punycode; an IPv6 address in brackets
  uint16_t port = 0;

  bool SameOrigin(const HttpUrl& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
};

// `location` may be relative to `base`, which may be empty. Any thread. Failures say what is wrong with the URL without
// quoting it: it may hold a password.
absl::StatusOr<HttpUrl> ParseHttpUrl(const CurlApi& api, const std::string& base, const std::string& location);

}  // namespace supervisor
