#include <fcntl.h>
#include <fmt/format.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/unique_fd.h"
#include "common/version.h"
#include "daemon/config/status_range.h"
#include "daemon/health/content_decoder.h"
#include "daemon/health/http_url.h"
#include "daemon/health/probe.h"
#include "daemon/health/text.h"

namespace supervisor {
namespace {

constexpr size_t kBodyBytes = 1 << 20;
constexpr size_t kHeaderBytes = 256 << 10;
constexpr int kMostRedirects = 10;
constexpr long kBufferBytes = 8 << 10;         // a transfer's memory: thousands may hang at once
constexpr long kKeepAuthoritiesSeconds = 300;  // parsed CA files, shared by all checks
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

bool EqualsIgnoringCase(const std::string& a, const char* b) { return strcasecmp(a.c_str(), b) == 0; }

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// An HTTP request. Redirects are followed here, one transfer a hop, so that each hop's name goes through the Resolver
// and libcurl, whose own resolver may block at clean-up, never looks one up.
//
//   Begin -> Visit(url) -> resolve -> Send -> header callbacks -> Visit(next) | body -> judge
class HttpProbe final : public Probe {
 public:
  HttpProbe(ProbeTools& tools, ProbeRequest request)
      : tools_(tools),
        request_(std::move(request)),
        method_(request_.config.method),
        matcher_(std::make_shared<ContentMatcher>(request_.config, kBodyBytes)),
        alive_(std::make_shared<bool>(true)) {}

  HttpProbe(const HttpProbe&) = delete;
  HttpProbe& operator=(const HttpProbe&) = delete;
  ~HttpProbe() override { Hangup(); }

  void Begin() override {
    began_ = MonotonicNow();
    const absl::Status ready = tools_.curl.Prepare();
    if (const std::string complaint = !ready.ok() ? std::string(ready.message()) : ConfigComplaint();
        !complaint.empty()) {
      Finish(false, complaint);
      return;
    }
    Visit("", request_.config.url);
  }

  void DeadlinePassed() override {
    const std::string stage = StageText();
    Hangup();
    request_.finish({.message = fmt::format("timed out after {} ({})", DurationText(request_.config.timeout), stage),
                     .timed_out = true});
  }

 private:
  enum class Stage { kResolving, kConnecting, kReading };

  std::string ConfigComplaint() const {
    const HealthCheckConfig& config = request_.config;
    for (const auto& [name, value] : config.headers) {
      if ((name + value).find_first_of("\r\n") != std::string::npos) {
        return fmt::format("header {} holds a line break", QuotedExcerpt(name));
      }
    }
    if (config.unix_socket.size() >= sizeof(sockaddr_un::sun_path)) {
      return fmt::format("unix_socket {} is longer than the {} bytes that a socket's path may have", config.unix_socket,
                         sizeof(sockaddr_un::sun_path) - 1);
    }
    return matcher_->error();
  }

  void Visit(const std::string& base, const std::string& location) {
    absl::StatusOr<HttpUrl> url = ParseHttpUrl(tools_.curl.api(), base, location);
    if (!url.ok()) {
      Finish(false, hops_ == 0
                        ? std::string(url.status().message())
                        : fmt::format("HTTP {} redirects to an {}", status_, std::string(url.status().message())));
      return;
    }
    if (hops_ > 0 && !url->SameOrigin(url_)) {
      foreign_ = true;
    }
    url_ = *std::move(url);
    stage_ = Stage::kResolving;
    if (!request_.config.unix_socket.empty()) {
      Send({});
      return;
    }
    query_ = tools_.resolver.Resolve(url_.host, [this](const absl::StatusOr<AddressList>& addresses) {
      if (addresses.ok()) {
        Send(*addresses);
      } else {
        Finish(false, std::string(addresses.status().message()));
      }
    });
  }

  void Send(const AddressList& addresses) {
    Hangup();
    addresses_ = addresses;
    stage_ = Stage::kConnecting;
    status_ = 0;
    header_bytes_ = 0;
    headers_done_ = false;
    location_.clear();
    coding_.clear();
    decoder_.reset();
    open_error_ = 0;
    opened_.clear();
    easy_ = tools_.curl.api().easy_init();
    setup_error_ = easy_ == nullptr ? CURLE_OUT_OF_MEMORY : CURLE_OK;
    if (setup_error_ == CURLE_OK) {
      SetRequest();
      SetConnection();
      SetLimits();
    }
    if (setup_error_ != CURLE_OK) {
      Finish(false, fmt::format("libcurl refuses the request: {}", tools_.curl.api().easy_strerror(setup_error_)));
      return;
    }
    const absl::Status added = tools_.curl.Add(easy_, [this](CURLcode code) { OnTransferDone(code); });
    if (!added.ok()) {
      Finish(false, std::string(added.message()));
    }
  }

  template <typename Value>
  void Set(CURLoption option, Value value) {
    const CURLcode code = tools_.curl.api().easy_setopt(easy_, option, value);
    if (setup_error_ == CURLE_OK) {
      setup_error_ = code;
    }
  }

  void SetRequest() {
    Set(CURLOPT_URL, RequestUrl().c_str());
    Set(CURLOPT_USERAGENT, fmt::format("supervisord/{}", kVersion).c_str());  // curl copies it
    if (EqualsIgnoringCase(method_, "HEAD")) {
      Set(CURLOPT_NOBODY, 1L);
    } else if (!EqualsIgnoringCase(method_, "GET")) {
      Set(CURLOPT_CUSTOMREQUEST, method_.c_str());
      if (EqualsIgnoringCase(method_, "POST") || EqualsIgnoringCase(method_, "PUT") ||
          EqualsIgnoringCase(method_, "PATCH")) {
        Set(CURLOPT_POSTFIELDS, "");  // says Content-Length: 0, which some servers insist on
        AddHeader("Content-Type:");   // and no form, unless the configuration says so below
      }
    }
    for (const auto& [name, value] : request_.config.headers) {
      // Credentials are for the server that was configured, not for one it redirects to.
      const bool secret = EqualsIgnoringCase(name, "Authorization") || EqualsIgnoringCase(name, "Cookie");
      const bool of_origin = secret || EqualsIgnoringCase(name, "Host");
      if (!foreign_ || !of_origin) {
        AddHeader(value.empty() ? name + ";" : fmt::format("{}: {}", name, value));
      }
    }
    if (HasServerName() && !HasHeader("Host")) {
      AddHeader(fmt::format("Host: {}", url_.HostAndPort()));
    }
    Set(CURLOPT_HTTPHEADER, headers_);
  }

  // The name is for the server that was configured, not for one it redirects to.
  bool HasServerName() const { return !request_.config.tls_server_name.empty() && url_.scheme == "https" && !foreign_; }

  bool HasHeader(const char* wanted) const {
    return std::ranges::any_of(request_.config.headers,
                               [wanted](const auto& entry) { return EqualsIgnoringCase(entry.first, wanted); });
  }

  // libcurl sends the URL's host as the server's name and expects its certificate, so the name is put there; it is
  // still connected to what the configuration says (SetConnection), and the request still names that.
  std::string RequestUrl() const {
    return HasServerName() ? WithHost(tools_.curl.api(), url_, request_.config.tls_server_name) : url_.url;
  }

  void AddHeader(const std::string& line) {
    if (curl_slist* longer = tools_.curl.api().slist_append(headers_, line.c_str()); longer != nullptr) {
      headers_ = longer;
    } else {
      setup_error_ = CURLE_OUT_OF_MEMORY;
    }
  }

  void SetConnection() {
    const HealthCheckConfig& config = request_.config;
    if (!config.unix_socket.empty()) {
      Set(CURLOPT_UNIX_SOCKET_PATH, config.unix_socket.c_str());
    } else if (!AddressesWithoutLookup(url_.host).has_value()) {
      std::string entry;
      for (const SocketAddress& address : addresses_) {
        entry += (entry.empty() ? "" : ",") + address.Host();
      }
      // '+': expires from curl's own cache, which the next check replaces anyway.
      entry = fmt::format("+{}:{}:{}", url_.host, url_.port, entry);
      resolved_ = tools_.curl.api().slist_append(nullptr, entry.c_str());
      Set(CURLOPT_RESOLVE, resolved_);
    }
    if (HasServerName() && config.unix_socket.empty()) {
      connect_to_ = tools_.curl.api().slist_append(nullptr, fmt::format("::{}:{}", url_.host, url_.port).c_str());
      Set(CURLOPT_CONNECT_TO, connect_to_);
    }
    Set(CURLOPT_PROXY, "");  // none, whatever the daemon's environment says
    Set(CURLOPT_FRESH_CONNECT, 1L);
    Set(CURLOPT_FORBID_REUSE, 1L);
    Set(CURLOPT_OPENSOCKETFUNCTION, &HttpProbe::OpenSocket);
    Set(CURLOPT_OPENSOCKETDATA, this);
    if (!config.verify_tls) {
      Set(CURLOPT_SSL_VERIFYPEER, 0L);
      Set(CURLOPT_SSL_VERIFYHOST, 0L);
    } else if (!config.ca_file.empty()) {
      Set(CURLOPT_CAINFO, config.ca_file.c_str());
    }
    // Without a directory of certificates curl caches the file's: parsing Debian's takes some 50 ms of this thread.
    Set(CURLOPT_CAPATH, nullptr);
    Set(CURLOPT_CA_CACHE_TIMEOUT, kKeepAuthoritiesSeconds);
  }

  void SetLimits() {
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_FOLLOWLOCATION, 0L);
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_QUICK_EXIT, 1L);  // should curl ever look up a name after all, clean-up does not wait for it
    Set(CURLOPT_BUFFERSIZE, kBufferBytes);
    Set(CURLOPT_ERRORBUFFER, error_text_.data());
    error_text_[0] = '\0';
    Set(CURLOPT_WRITEFUNCTION, &HttpProbe::OnBody);
    Set(CURLOPT_WRITEDATA, this);
    Set(CURLOPT_HEADERFUNCTION, &HttpProbe::OnHeader);
    Set(CURLOPT_HEADERDATA, this);
    // The deadline is the Checker's. Decompression is ours (ContentDecoder): libcurl's undoes five layers within one
    // callback, which a hostile answer could make take minutes.
  }

  static curl_socket_t OpenSocket(void* data, curlsocktype /*purpose*/, curl_sockaddr* address) {
    auto* self = static_cast<HttpProbe*>(data);
    const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) {
      self->open_error_ = errno;
      return CURL_SOCKET_BAD;
    }
    if (struct stat info{}; fstat(fd, &info) == 0) {
      self->opened_.push_back({fd, info.st_ino});
    }
    if (address->family == AF_INET || address->family == AF_INET6) {
      SocketAddress peer;
      std::memcpy(&peer.storage, &address->addr, std::min<size_t>(address->addrlen, sizeof peer.storage));
      self->peer_ = peer.ToString();
    }
    return fd;
  }

  // Returns what was taken; anything less than `size` ends the transfer, which is meant where all is decided.
  static size_t OnHeader(char* bytes, size_t /*one*/, size_t size, void* data) {
    auto* self = static_cast<HttpProbe*>(data);
    return self->TakeHeader({bytes, size}) ? size : self->Cut();
  }

  static size_t OnBody(char* bytes, size_t /*one*/, size_t size, void* data) {
    auto* self = static_cast<HttpProbe*>(data);
    return self->TakeBody({bytes, size}) ? size : self->Cut();
  }

  // libcurl closes its connection now, with bytes of the answer unread or on their way. A descriptor of ours keeps it
  // open, for it to be ended in order. By then a number may have become another's: the inode says whose it is.
  size_t Cut() {
    for (const Opened& opened : opened_) {
      struct stat info {};
      sockaddr_storage peer{};
      socklen_t length = sizeof peer;
      if (fstat(opened.fd, &info) == 0 && info.st_ino == opened.inode &&
          getpeername(opened.fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0) {
        cut_.Reset(fcntl(opened.fd, F_DUPFD_CLOEXEC, 0));
      }
    }
    return 0;
  }

  bool TakeHeader(std::string_view line) {
    stage_ = Stage::kReading;
    header_bytes_ += line.size();
    if (header_bytes_ > kHeaderBytes) {
      return false;
    }
    if (headers_done_) {
      return true;  // a trailer
    }
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) {
      line.remove_suffix(1);
    }
    if (line.starts_with("HTTP/")) {
      const size_t space = line.find(' ');
      status_ = 0;
      location_.clear();
      coding_.clear();
      if (space != std::string_view::npos) {
        std::from_chars(line.data() + space + 1, line.data() + line.size(), status_);
      }
    } else if (constexpr std::string_view kLocation = "location:";
               line.size() > kLocation.size() && strncasecmp(line.data(), kLocation.data(), kLocation.size()) == 0) {
      line.remove_prefix(kLocation.size());
      location_ = line.substr(std::min(line.size(), line.find_first_not_of(" \t")));
    } else if (constexpr std::string_view kCoding = "content-encoding:";
               line.size() > kCoding.size() && strncasecmp(line.data(), kCoding.data(), kCoding.size()) == 0) {
      line.remove_prefix(kCoding.size());
      coding_ += (coding_.empty() ? "" : ",") + std::string(line);
    } else if (line.empty() && status_ >= 200) {  // the end, and not of an interim answer (1xx)
      headers_done_ = true;
      return IsExpected();
    }
    return true;
  }

  // What nothing is expected of is not decoded.
  bool TakeBody(std::string_view piece) {
    if (coding_.empty() || !matcher_->expects_anything()) {
      return Match(piece);
    }
    if (decoder_ == nullptr) {
      decoder_ = std::make_unique<ContentDecoder>(coding_);
    }
    return decoder_->Decode(piece, [this](std::string_view decoded) { return Match(decoded); });
  }

  bool Match(std::string_view piece) {
    matcher_->Append(piece);
    const bool enough = matcher_->expects_anything() && matcher_->is_decided();
    return !enough && !matcher_->full();
  }

  bool IsExpected() const { return IsWithin(request_.config.expected_status, status_); }

  void OnTransferDone(CURLcode code) {
    tools_.closer.End(std::move(cut_));
    if (header_bytes_ > kHeaderBytes) {
      Finish(false, fmt::format("the response headers exceed {} KiB", kHeaderBytes >> 10));
    } else if (open_error_ != 0 && IsOwnShortage(open_error_)) {
      // That this daemon has no descriptor left says nothing about the service: try until the deadline.
      retry_ = tools_.loop.NewTimer([this] { Send(AddressList(addresses_)); });
      retry_->ArmAfter(kRetryAfter);
    } else if (headers_done_ && !IsExpected()) {
      OnUnexpectedStatus();
    } else if (code == CURLE_OK && !headers_done_) {
      // libcurl calls an answer complete that ends within its headers.
      Finish(false, fmt::format("connection closed in the middle of the headers ({}{})", Where(),
                                status_ > 0 ? fmt::format(", HTTP {}", status_) : ""));
    } else if (decoder_ != nullptr && !decoder_->error().empty()) {
      Finish(false, fmt::format("{} (HTTP {})", decoder_->error(), status_));
    } else if (code == CURLE_OK && decoder_ != nullptr && decoder_->is_cut_short() && !matcher_->is_decided()) {
      Finish(false, fmt::format("the body ends in the midst of its {} data (HTTP {})", coding_, status_));
    } else if (code == CURLE_OK ||
               (headers_done_ && (matcher_->full() || matcher_->is_decided()) && code == CURLE_WRITE_ERROR)) {
      JudgeBody();
    } else {
      Finish(false, TransferFailure(code));
    }
  }

  void OnUnexpectedStatus() {
    if (!request_.config.follow_redirects || !IsRedirect(status_) || location_.empty()) {
      Finish(false, fmt::format("HTTP {} (expected {})", status_, StatusRangesText(request_.config.expected_status)));
      return;
    }
    if (++hops_ > kMostRedirects) {
      Finish(false, fmt::format("more than {} redirects", kMostRedirects));
      return;
    }
    // As browsers do: a 303, and a 301 or 302 after a POST, asks for a plain GET.
    if ((status_ == 303 && !EqualsIgnoringCase(method_, "HEAD")) ||
        (status_ <= 302 && EqualsIgnoringCase(method_, "POST"))) {
      method_ = "GET";
    }
    Visit(std::string(url_.url), std::string(location_));
  }

  void JudgeBody() {
    JudgeContent(tools_, matcher_, "body", alive_, [this](const std::optional<std::string>& failure) {
      Finish(!failure.has_value(), failure.has_value()
                                       ? fmt::format("{} (HTTP {})", *failure, status_)
                                       : fmt::format("HTTP {} in {}", status_, DurationText(MonotonicNow() - began_)));
    });
  }

  std::string Where() const {
    if (!request_.config.unix_socket.empty()) {
      return request_.config.unix_socket;
    }
    return peer_.empty() ? fmt::format("{}:{}", url_.host, url_.port) : peer_;
  }

  std::string TransferFailure(CURLcode code) {
    const CurlApi& api = tools_.curl.api();
    long os_error = 0;
    api.easy_getinfo(easy_, CURLINFO_OS_ERRNO, &os_error);
    const std::string detail = error_text_[0] != '\0' ? error_text_.data() : api.easy_strerror(code);
    switch (code) {
      case CURLE_COULDNT_CONNECT:
        return fmt::format("{} ({})", os_error != 0 ? ErrnoPhrase(static_cast<int>(os_error)) : detail, Where());
      case CURLE_GOT_NOTHING:
        return fmt::format("connection closed without an answer ({})", Where());
      case CURLE_PARTIAL_FILE:
        return fmt::format("connection closed in the middle of the body ({}, HTTP {})", Where(), status_);
      case CURLE_RECV_ERROR:
      case CURLE_SEND_ERROR:
        return fmt::format("{} ({})", os_error != 0 ? ErrnoPhrase(static_cast<int>(os_error)) : detail, Where());
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_WEIRD_SERVER_REPLY:
        return fmt::format("the answer is not HTTP ({})", Where());
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
        return fmt::format("TLS: {} ({}; see ca_file and verify_tls)", detail, Where());
      default:
        return fmt::format("{} ({})", detail, Where());
    }
  }

  std::string StageText() {
    if (open_error_ != 0) {
      return fmt::format("this daemon cannot make a socket: {}", ErrnoPhrase(open_error_));
    }
    switch (stage_) {
      case Stage::kResolving:
        return fmt::format("resolving {}", url_.host);
      case Stage::kConnecting: {
        curl_off_t connected = 0;
        if (easy_ != nullptr) {
          tools_.curl.api().easy_getinfo(easy_, CURLINFO_CONNECT_TIME_T, &connected);
        }
        return fmt::format("{} {}", connected > 0 ? "waiting for an answer from" : "connecting to", Where());
      }
      case Stage::kReading:
        return headers_done_
                   ? fmt::format("HTTP {}, but its body did not end: {} bytes came", status_, matcher_->seen())
                   : fmt::format("the headers from {} did not end", Where());
    }
    return "";
  }

  void Finish(bool success, const std::string& message) {
    Hangup();
    request_.finish({.success = success, .message = OneLineTail(message, kBodyBytes)});
  }

  void Hangup() {
    if (easy_ != nullptr) {
      tools_.curl.Remove(easy_);
      tools_.curl.api().easy_cleanup(std::exchange(easy_, nullptr));
    }
    if (headers_ != nullptr) {
      tools_.curl.api().slist_free_all(std::exchange(headers_, nullptr));
    }
    if (resolved_ != nullptr) {
      tools_.curl.api().slist_free_all(std::exchange(resolved_, nullptr));
    }
    if (connect_to_ != nullptr) {
      tools_.curl.api().slist_free_all(std::exchange(connect_to_, nullptr));
    }
  }

  ProbeTools& tools_;
  ProbeRequest request_;
  std::string method_;
  std::shared_ptr<ContentMatcher> matcher_;
  std::shared_ptr<bool> alive_;
  MonoTime began_;

  // Of the hop under way.
  HttpUrl url_;
  int hops_ = 0;
  bool foreign_ = false;  // a redirect has led to another origin
  std::shared_ptr<Resolver::Query> query_;
  AddressList addresses_;
  CURL* easy_ = nullptr;
  curl_slist* headers_ = nullptr;
  curl_slist* resolved_ = nullptr;
  curl_slist* connect_to_ = nullptr;
  CURLcode setup_error_ = CURLE_OK;
  std::unique_ptr<Loop::Timer> retry_;
  std::array<char, CURL_ERROR_SIZE> error_text_{};
  Stage stage_ = Stage::kResolving;
  int open_error_ = 0;
  std::string peer_;
  struct Opened {
    int fd;  // libcurl's
    ino_t inode;
  };
  std::vector<Opened> opened_;
  UniqueFd cut_;  // of the connection, where the answer was not read to its end
  int status_ = 0;
  size_t header_bytes_ = 0;
  bool headers_done_ = false;
  std::string location_;
  std::string coding_;  // Content-Encoding
  std::unique_ptr<ContentDecoder> decoder_;
};

}  // namespace

std::unique_ptr<Probe> NewHttpProbe(ProbeTools& tools, ProbeRequest request) {
  return std::make_unique<HttpProbe>(tools, std::move(request));
}

}  // namespace supervisor
