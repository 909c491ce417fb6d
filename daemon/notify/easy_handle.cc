#include "daemon/notify/easy_handle.h"

#include <fmt/format.h>

namespace supervisor {

EasyHandle::EasyHandle(const CurlApi& api, const std::string& url, const char* protocols)
    : api_(api), easy_(api.easy_init()), error_(easy_ == nullptr ? CURLE_OUT_OF_MEMORY : CURLE_OK) {
  Set(CURLOPT_URL, url.c_str());
  Set(CURLOPT_PROTOCOLS_STR, protocols);
  Set(CURLOPT_FOLLOWLOCATION, 0L);
  Set(CURLOPT_NOSIGNAL, 1L);
  Set(CURLOPT_QUICK_EXIT, 1L);
  Set(CURLOPT_FRESH_CONNECT, 1L);
  Set(CURLOPT_FORBID_REUSE, 1L);
  Set(CURLOPT_ERRORBUFFER, error_text_.data());
}

EasyHandle::~EasyHandle() {
  if (easy_ != nullptr) {
    api_.easy_cleanup(easy_);
  }
  for (curl_slist* list : {list_, resolved_}) {
    if (list != nullptr) {
      api_.slist_free_all(list);
    }
  }
}

void EasyHandle::SetAddresses(const std::string& host, const std::string& port, const AddressList& addresses) {
  if (addresses.empty() || AddressesWithoutLookup(host).has_value()) {
    return;
  }
  std::string list;
  for (const SocketAddress& address : addresses) {
    list += (list.empty() ? "" : ",") + address.Host();
  }
  Fill(resolved_, CURLOPT_RESOLVE, {fmt::format("+{}:{}:{}", host, port, list)});
}

void EasyHandle::SetTrust(const ChannelConfig& channel) {
  if (!channel.verify_tls) {
    Set(CURLOPT_SSL_VERIFYPEER, 0L);
    Set(CURLOPT_SSL_VERIFYHOST, 0L);
  } else if (!channel.ca_file.empty()) {
    Set(CURLOPT_CAINFO, channel.ca_file.c_str());
    Set(CURLOPT_CAPATH, nullptr);
  }
}

absl::Status EasyHandle::status() const {
  return error_ == CURLE_OK ? absl::OkStatus()
                            : absl::InternalError(fmt::format("libcurl refuses it: {}", api_.easy_strerror(error_)));
}

long EasyHandle::ResponseCode() const {
  long code = 0;
  api_.easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &code);
  return code;
}

absl::Status EasyHandle::Failure(CURLcode code, const ChannelConfig& channel) const {
  const std::string plain = api_.easy_strerror(code);
  const std::string detail = error_text_.front() != '\0' ? error_text_.data() : plain;
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_USE_SSL_FAILED:
      return absl::UnavailableError(fmt::format("TLS: {} (see its ca_file and verify_tls)", detail));
    case CURLE_SSL_CACERT_BADFILE:
      return absl::UnavailableError(fmt::format("TLS: ca_file {} cannot be read or holds no certificate",
                                                channel.ca_file.empty() ? "of the system" : channel.ca_file));
    default:
      break;
  }
  const long answered = ResponseCode();
  return absl::UnavailableError(
      fmt::format("{}{}", plain, answered >= 400 ? fmt::format(" (it answered {})", answered) : ""));
}

void EasyHandle::Fill(curl_slist*& list, CURLoption option, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    if (curl_slist* longer = api_.slist_append(list, line.c_str()); longer != nullptr) {
      list = longer;
    } else {
      error_ = CURLE_OUT_OF_MEMORY;
    }
  }
  Set(option, list);
}

}  // namespace supervisor
