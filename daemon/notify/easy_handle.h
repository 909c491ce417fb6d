#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "daemon/config/config.h"
#include "daemon/health/curl_api.h"
#include "daemon/health/resolver.h"

namespace supervisor {

// One libcurl transfer of a notification: its handle and lists, set up option by option; the first error counts. Owned
// by a delivery, used by one thread at a time.
class EasyHandle {
 public:
  // Sets what all transfers have in common. `protocols` such as "http,https".
  EasyHandle(const CurlApi& api, const std::string& url, const char* protocols);
  ~EasyHandle();
  EasyHandle(const EasyHandle&) = delete;
  EasyHandle& operator=(const EasyHandle&) = delete;

  CURL* get() const { return easy_; }
  template <typename Value>
  void Set(CURLoption option, Value value) {
    if (easy_ != nullptr) {
      const CURLcode code = api_.easy_setopt(easy_, option, value);
      error_ = error_ == CURLE_OK ? code : error_;
    }
  }
  void SetList(CURLoption option, const std::vector<std::string>& lines) { Fill(list_, option, lines); }
  // Where a name was looked up: what it stands for, so that libcurl looks nothing up.
  void SetAddresses(const std::string& host, const std::string& port, const AddressList& addresses);
  // "verify_tls" and "ca_file".
  void SetTrust(const ChannelConfig& channel);

  absl::Status status() const;
  long ResponseCode() const;
  // What went wrong, in words, without anything secret: no URL, no header, no body.
  absl::Status Failure(CURLcode code, const ChannelConfig& channel) const;

 private:
  void Fill(curl_slist*& list, CURLoption option, const std::vector<std::string>& lines);

  const CurlApi& api_;
  CURL* easy_;
  CURLcode error_;
  curl_slist* list_ = nullptr;  // headers, or recipients
  curl_slist* resolved_ = nullptr;
  std::array<char, CURL_ERROR_SIZE> error_text_{};
};

}  // namespace supervisor
