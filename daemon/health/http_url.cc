#include "daemon/health/http_url.h"

#include <fmt/format.h>

#include <charconv>
#include <memory>

namespace supervisor {
namespace {

constexpr size_t kMostHostBytes = 253;  // of a name in the DNS; what redirects to a longer one only fills messages

using UrlHandle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

// Empty when the part is absent or cannot be told.
std::string Part(const CurlApi& api, CURLU* url, CURLUPart part, unsigned flags, CURLUcode& code) {
  char* text = nullptr;
  code = api.url_get(url, part, &text, flags);
  std::string result = code == CURLUE_OK && text != nullptr ? text : "";
  api.free(text);
  return result;
}

absl::Status Invalid(const CurlApi& api, CURLUcode code) {
  return absl::InvalidArgumentError(fmt::format("invalid URL: {}", api.url_strerror(code)));
}

}  // namespace

std::string HttpUrl::HostAndPort() const {
  constexpr uint16_t kHttpPort = 80;
  constexpr uint16_t kHttpsPort = 443;
  return port == (scheme == "https" ? kHttpsPort : kHttpPort) ? host : fmt::format("{}:{}", host, port);
}

std::string WithHost(const CurlApi& api, const HttpUrl& url, const std::string& host) {
  const bool is_bare_ipv6 = host.find(':') != std::string::npos && !host.starts_with('[');
  const std::string named = is_bare_ipv6 ? fmt::format("[{}]", host) : host;
  const UrlHandle parsed(api.url(), api.url_cleanup);
  if (parsed == nullptr || api.url_set(parsed.get(), CURLUPART_URL, url.url.c_str(), 0) != CURLUE_OK ||
      api.url_set(parsed.get(), CURLUPART_HOST, named.c_str(), 0) != CURLUE_OK) {
    return url.url;
  }
  CURLUcode code = CURLUE_OK;
  const std::string text = Part(api, parsed.get(), CURLUPART_URL, 0, code);
  return code == CURLUE_OK ? text : url.url;
}

absl::StatusOr<HttpUrl> ParseHttpUrl(const CurlApi& api, const std::string& base, const std::string& location) {
  const UrlHandle url(api.url(), api.url_cleanup);
  if (url == nullptr) {
    return absl::ResourceExhaustedError("out of memory");
  }
  constexpr unsigned kFlags = CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE;
  for (const std::string& text : {base, location}) {
    if (text.empty()) {
      continue;
    }
    if (const CURLUcode code = api.url_set(url.get(), CURLUPART_URL, text.c_str(), kFlags); code != CURLUE_OK) {
      return Invalid(api, code);
    }
  }
  HttpUrl result;
  CURLUcode code = CURLUE_OK;
  result.scheme = Part(api, url.get(), CURLUPART_SCHEME, 0, code);
  if (result.scheme != "http" && result.scheme != "https") {
    return absl::InvalidArgumentError(
        fmt::format("URL of scheme \"{}\" refused (only http and https are checked)", result.scheme));
  }
  result.host = Part(api, url.get(), CURLUPART_HOST, CURLU_PUNYCODE, code);
  if (code != CURLUE_OK || result.host.empty()) {
    return Invalid(api, code == CURLUE_OK ? CURLUE_NO_HOST : code);
  }
  if (result.host.size() > kMostHostBytes) {
    return absl::InvalidArgumentError(
        fmt::format("invalid URL: its host is longer than the {} bytes that a name may have", kMostHostBytes));
  }
  const std::string port = Part(api, url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT, code);
  std::from_chars(port.data(), port.data() + port.size(), result.port);
  result.url = Part(api, url.get(), CURLUPART_URL, 0, code);
  if (code != CURLUE_OK || result.port == 0) {
    return Invalid(api, code == CURLUE_OK ? CURLUE_BAD_PORT_NUMBER : code);
  }
  return result;
}

}  // namespace supervisor
