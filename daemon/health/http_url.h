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
  // As the Host header names it (RFC 9110, section 7.2): without the scheme's own port.
  std::string HostAndPort() const;
};

// `location` may be relative to `base`, which may be empty. Any thread. Failures say what is wrong with the URL without
// quoting it: it may hold a password.
absl::StatusOr<HttpUrl> ParseHttpUrl(const CurlApi& api, const std::string& base, const std::string& location);

// The same URL at another host, which may be an IPv6 address without its brackets.
std::string WithHost(const CurlApi& api, const HttpUrl& url, const std::string& host);

}  // namespace supervisor
