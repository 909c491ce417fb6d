#include <fmt/format.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/version.h"
#include "daemon/health/http_url.h"
#include "daemon/notify/delivery.h"
#include "daemon/notify/easy_handle.h"
#include "daemon/notify/proxy_choice.h"
#include "daemon/notify/retry_after.h"

namespace supervisor {
namespace {

constexpr size_t kMostAnswerBytes = 64 << 10;
constexpr size_t kMostHeaderBytes = 64 << 10;
constexpr int kMostRedirects = 5;
constexpr long kFirstFinalStatus = 200;

std::string EnvironmentVariable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
  return value != nullptr ? value : "";
}

bool EqualsIgnoringCase(const std::string& a, const char* b) { return strcasecmp(a.c_str(), b) == 0; }

// Those that say how the message is framed: they follow from the message, and a wrong one would break it.
bool IsOfFraming(const std::string& name) {
  return EqualsIgnoringCase(name, "Content-Length") || EqualsIgnoringCase(name, "Transfer-Encoding") ||
         EqualsIgnoringCase(name, "Expect");
}

// 303 says that the message was taken and its result is elsewhere; as no receiver of alerts does.
bool KeepsTheMessage(long status) { return status == 301 || status == 302 || status == 307 || status == 308; }

// From the same host to itself, or from its http:// to its https://.
bool MayHaveHeaders(const HttpUrl& from, const HttpUrl& to) {
  return from.SameOrigin(to) || (from.host == to.host && from.scheme == "http" && to.scheme == "https");
}

// The value of this header, where the line is one.
bool TakeValue(std::string_view line, std::string_view name, std::string& value) {
  if (line.size() <= name.size() || strncasecmp(line.data(), name.data(), name.size()) != 0 ||
      line[name.size()] != ':') {
    return false;
  }
  line.remove_prefix(name.size() + 1);
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(" \t")));
  value = line.substr(0, line.find_last_not_of(" \t\r\n") + 1);
  return true;
}

// A POST of JSON. Redirects are followed here, one transfer a hop, and the message goes along with each: a webhook that
// has moved is still to be told. The configured headers may be secrets, so another host does not get them.
//
//   Start -> Visit(url) -> resolve -> Send -> OnTransferDone -> Visit(next) | done
class WebDelivery final : public Delivery {
 public:
  WebDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body, Done done)
      : tools_(tools), channel_(channel), body_(std::move(body)), done_(std::move(done)) {}
  WebDelivery(const WebDelivery&) = delete;
  WebDelivery& operator=(const WebDelivery&) = delete;
  ~WebDelivery() override {
    query_.reset();
    Hangup();
  }

 private:
  absl::Status Start() override {
    if (absl::Status status = tools_.curl.Prepare(); !status.ok()) {
      return status;
    }
    return Visit("", channel_.url);
  }

  absl::Status Visit(const std::string& base, const std::string& location) {
    absl::StatusOr<HttpUrl> url = ParseHttpUrl(tools_.curl.api(), base, location);
    if (!url.ok()) {
      return url.status();
    }
    if (hops_ > 0) {
      if (url_.scheme == "https" && url->scheme == "http") {
        return absl::UnavailableError(
            fmt::format("HTTP {} redirects from https to http, which is not followed", status_));
      }
      has_headers_ = has_headers_ && MayHaveHeaders(url_, *url);
    }
    url_ = *std::move(url);
    proxy_ = ProxyFor(url_.scheme, url_.host, EnvironmentVariable);
    if (!proxy_.empty()) {
      return Send({});  // it looks names up itself
    }
    query_ = tools_.resolver.Resolve(url_.host, [this](const absl::StatusOr<AddressList>& addresses) {
      if (const absl::Status status = addresses.ok() ? Send(*addresses) : addresses.status(); !status.ok()) {
        Finish({.status = status});
      }
    });
    return absl::OkStatus();
  }

  absl::Status Send(const AddressList& addresses) {
    Hangup();
    status_ = 0;
    header_bytes_ = 0;
    answer_bytes_ = 0;
    has_head_ = false;
    location_.clear();
    retry_after_.clear();
    date_.clear();
    easy_ = std::make_unique<EasyHandle>(tools_.curl.api(), url_.url, "http,https");
    easy_->Set(CURLOPT_PROXY, proxy_.c_str());
    easy_->Set(CURLOPT_NOPROXY, "");  // that has been decided
    easy_->SetAddresses(url_.host, fmt::format("{}", url_.port), addresses);
    easy_->SetTrust(channel_);
    easy_->Set(CURLOPT_OPENSOCKETFUNCTION, &WebDelivery::OpenSocket);
    easy_->Set(CURLOPT_HEADERFUNCTION, &WebDelivery::OnHeader);
    easy_->Set(CURLOPT_HEADERDATA, this);
    easy_->Set(CURLOPT_WRITEFUNCTION, &WebDelivery::OnAnswer);
    easy_->Set(CURLOPT_WRITEDATA, this);
    easy_->Set(CURLOPT_USERAGENT, fmt::format("supervisord/{}", kVersion).c_str());  // curl copies it
    easy_->Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(body_.size()));
    easy_->Set(CURLOPT_POSTFIELDS, body_.c_str());
    easy_->SetList(CURLOPT_HTTPHEADER, Headers());
    if (absl::Status status = easy_->status(); !status.ok()) {
      return status;
    }
    return tools_.curl.Add(easy_->get(), [this](CURLcode code) { OnTransferDone(code); });
  }

  // One that is configured stands in the place of ours; libcurl does the same with its own (Host, User-Agent, Accept).
  std::vector<std::string> Headers() const {
    std::vector<std::string> lines = {"Expect:"};  // not asked before, since the body is small
    bool has_type = false;
    for (const auto& [name, value] : channel_.headers) {
      const bool is_type = EqualsIgnoringCase(name, "Content-Type");
      if (IsOfFraming(name) || !(has_headers_ || is_type)) {
        continue;
      }
      has_type = has_type || is_type;
      lines.push_back(value.empty() ? name + ";" : fmt::format("{}: {}", name, value));
    }
    if (!has_type) {
      lines.emplace_back("Content-Type: application/json");
    }
    return lines;
  }

  static curl_socket_t OpenSocket(void* /*data*/, curlsocktype /*purpose*/, curl_sockaddr* address) {
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  static size_t OnHeader(char* bytes, size_t /*one*/, size_t size, void* data) {
    auto* self = static_cast<WebDelivery*>(data);
    self->header_bytes_ += size;
    const std::string_view line(bytes, size);
    self->has_head_ = self->has_head_ || (line == "\r\n" && self->easy_->ResponseCode() >= kFirstFinalStatus);
    static_cast<void>(TakeValue(line, "Location", self->location_) ||
                      TakeValue(line, "Retry-After", self->retry_after_) || TakeValue(line, "Date", self->date_));
    return self->header_bytes_ > kMostHeaderBytes ? 0 : size;
  }

  // Nobody reads it; one without end is cut.
  static size_t OnAnswer(char* /*bytes*/, size_t /*one*/, size_t size, void* data) {
    auto* self = static_cast<WebDelivery*>(data);
    self->answer_bytes_ += size;
    return self->answer_bytes_ > kMostAnswerBytes ? 0 : size;
  }

  void OnTransferDone(CURLcode code) {
    status_ = easy_->ResponseCode();
    // Once its head is there the answer is known, however its body ends.
    if (code != CURLE_OK && !has_head_) {
      Finish({.status = easy_->Failure(code, channel_)});
    } else if (status_ >= 200 && status_ <= 299) {
      Finish({.status = absl::OkStatus()});
    } else if (KeepsTheMessage(status_) && !location_.empty()) {
      Redirect();
    } else {
      const std::string where = hops_ > 0 ? fmt::format(", by {} to which it redirects", url_.HostAndPort()) : "";
      Finish({.status = absl::UnavailableError(fmt::format("HTTP {} (expected 200 to 299){}", status_, where)),
              .failed = {.failure = FailureOfStatus(status_),
                         .retry_after = ParseRetryAfter(retry_after_, date_, WallNow())}});
    }
  }

  void Redirect() {
    absl::Status status = absl::UnavailableError(fmt::format("more than {} redirects", kMostRedirects));
    if (++hops_ <= kMostRedirects) {
      status = Visit(std::string(url_.url), std::string(location_));
    }
    if (!status.ok()) {
      Finish({.status = status, .failed = {.failure = DeliveryFailure::kFault}});
    }
  }

  void Finish(const DeliveryOutcome& outcome) {
    if (const Done done = std::exchange(done_, nullptr)) {
      done(outcome);
    }
  }

  void Hangup() {
    if (easy_ != nullptr) {
      tools_.curl.Remove(easy_->get());
      easy_.reset();
    }
  }

  DeliveryTools& tools_;
  const ChannelConfig channel_;
  const std::string body_;
  Done done_;
  int hops_ = 0;
  bool has_headers_ = true;  // false: a redirect has led to another host

  // Of the hop under way.
  HttpUrl url_;
  std::string proxy_;
  std::shared_ptr<Resolver::Query> query_;
  std::unique_ptr<EasyHandle> easy_;
  long status_ = 0;
  size_t header_bytes_ = 0;
  size_t answer_bytes_ = 0;
  bool has_head_ = false;  // of the final answer: status and headers have come
  std::string location_;
  std::string retry_after_;
  std::string date_;
};

}  // namespace

std::unique_ptr<Delivery> NewWebDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                         Delivery::Done done) {
  return std::make_unique<WebDelivery>(tools, channel, std::move(body), std::move(done));
}

}  // namespace supervisor
