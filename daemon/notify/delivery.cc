#include "daemon/notify/delivery.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "common/version.h"

namespace supervisor {
namespace {

constexpr size_t kMostAnswerBytes = 64 << 10;
constexpr long kMailSeconds = 10;  // of a whole mail

// A proxy that the daemon's environment names looks names up itself (curl(1), ENVIRONMENT).
bool HasProxy() {
  return std::ranges::any_of(
      std::initializer_list<const char*>{"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"},
      [](const char* name) {
        const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
        return value != nullptr && *value != '\0';
      });
}

// Where a URL leads: what libcurl makes of it.
struct Place {
  std::string host;
  std::string port;
};

absl::StatusOr<Place> PlaceOf(const CurlApi& api, const std::string& url) {
  CURLU* parsed = api.url();
  Place place;
  const auto part = [&](CURLUPart which, unsigned flags) {
    char* text = nullptr;
    std::string value;
    if (api.url_get(parsed, which, &text, flags) == CURLUE_OK) {
      value = text;
      api.free(text);
    }
    return value;
  };
  const bool good = parsed != nullptr && api.url_set(parsed, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK;
  if (good) {
    place = {part(CURLUPART_HOST, 0), part(CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  }
  api.url_cleanup(parsed);
  if (!good || place.host.empty()) {
    return absl::InvalidArgumentError("its URL is none that can be understood");
  }
  return place;
}

// For CURLOPT_RESOLVE; empty where nothing needs to be looked up.
std::string ResolvedEntry(const Place& place, const AddressList& addresses) {
  if (addresses.empty() || AddressesWithoutLookup(place.host).has_value()) {
    return "";
  }
  std::string list;
  for (const SocketAddress& address : addresses) {
    list += (list.empty() ? "" : ",") + address.Host();
  }
  return fmt::format("+{}:{}:{}", place.host, place.port, list);
}

absl::Status TransferFailure(const CurlApi& api, CURLcode code, long answered) {
  return absl::UnavailableError(
      fmt::format("{}{}", api.easy_strerror(code), answered >= 400 ? fmt::format(" (it answered {})", answered) : ""));
}

// One easy handle and its lists, set up option by option; the first error counts.
class EasyHandle {
 public:
  explicit EasyHandle(const CurlApi& api) : api_(api), easy_(api.easy_init()) {
    error_ = easy_ == nullptr ? CURLE_OUT_OF_MEMORY : CURLE_OK;
  }
  ~EasyHandle() {
    if (easy_ != nullptr) {
      api_.easy_cleanup(easy_);
    }
    for (curl_slist* list : {list_, resolved_}) {
      if (list != nullptr) {
        api_.slist_free_all(list);
      }
    }
  }
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
  void SetAddresses(const std::string& entry) {
    if (!entry.empty()) {
      Fill(resolved_, CURLOPT_RESOLVE, {entry});
    }
  }
  absl::Status status() const {
    return error_ == CURLE_OK ? absl::OkStatus()
                              : absl::InternalError(fmt::format("libcurl refuses it: {}", api_.easy_strerror(error_)));
  }
  long ResponseCode() const {
    long code = 0;
    api_.easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &code);
    return code;
  }

 private:
  void Fill(curl_slist*& list, CURLoption option, const std::vector<std::string>& lines) {
    for (const std::string& line : lines) {
      if (curl_slist* longer = api_.slist_append(list, line.c_str()); longer != nullptr) {
        list = longer;
      } else {
        error_ = CURLE_OUT_OF_MEMORY;
      }
    }
    Set(option, list);
  }

  const CurlApi& api_;
  CURL* easy_;
  CURLcode error_;
  curl_slist* list_ = nullptr;  // headers, or recipients
  curl_slist* resolved_ = nullptr;
};

void SetCommon(EasyHandle& easy, const std::string& url, const char* protocols) {
  easy.Set(CURLOPT_URL, url.c_str());
  easy.Set(CURLOPT_PROTOCOLS_STR, protocols);
  easy.Set(CURLOPT_FOLLOWLOCATION, 0L);
  easy.Set(CURLOPT_NOSIGNAL, 1L);
  easy.Set(CURLOPT_QUICK_EXIT, 1L);
  easy.Set(CURLOPT_FRESH_CONNECT, 1L);
  easy.Set(CURLOPT_FORBID_REUSE, 1L);
}

// --------------------------------------------------------------------------------------------------------------- HTTP

//   Start -> resolve -> Send -> OnTransferDone -> done
class WebDelivery final : public Delivery {
 public:
  WebDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body, Done done)
      : tools_(tools), channel_(channel), body_(std::move(body)), done_(std::move(done)) {}
  WebDelivery(const WebDelivery&) = delete;
  WebDelivery& operator=(const WebDelivery&) = delete;
  ~WebDelivery() override {
    query_.reset();
    if (easy_ != nullptr) {
      tools_.curl.Remove(easy_->get());
    }
  }

  absl::Status Start() {
    if (absl::Status status = tools_.curl.Prepare(); !status.ok()) {
      return status;
    }
    const absl::StatusOr<Place> place = PlaceOf(tools_.curl.api(), channel_.url);
    if (!place.ok()) {
      return place.status();
    }
    place_ = *place;
    if (HasProxy()) {
      return Send({});
    }
    query_ = tools_.resolver.Resolve(place_.host, [this](const absl::StatusOr<AddressList>& addresses) {
      if (const absl::Status status = addresses.ok() ? Send(*addresses) : addresses.status(); !status.ok()) {
        Finish(status);
      }
    });
    return absl::OkStatus();
  }

 private:
  absl::Status Send(const AddressList& addresses) {
    easy_ = std::make_unique<EasyHandle>(tools_.curl.api());
    SetCommon(*easy_, channel_.url, "http,https");
    if (!addresses.empty()) {
      easy_->Set(CURLOPT_PROXY, "");
    }
    easy_->SetAddresses(ResolvedEntry(place_, addresses));
    easy_->Set(CURLOPT_OPENSOCKETFUNCTION, &WebDelivery::OpenSocket);
    easy_->Set(CURLOPT_WRITEFUNCTION, &WebDelivery::OnAnswer);
    easy_->Set(CURLOPT_WRITEDATA, this);
    easy_->Set(CURLOPT_USERAGENT, fmt::format("supervisord/{}", kVersion).c_str());  // curl copies it
    easy_->Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(body_.size()));
    easy_->Set(CURLOPT_POSTFIELDS, body_.c_str());
    // "Expect:": not asked before, since the body is small.
    std::vector<std::string> headers = {"Content-Type: application/json", "Expect:"};
    for (const auto& [name, value] : channel_.headers) {
      headers.push_back(value.empty() ? name + ";" : fmt::format("{}: {}", name, value));
    }
    easy_->SetList(CURLOPT_HTTPHEADER, headers);
    if (absl::Status status = easy_->status(); !status.ok()) {
      return status;
    }
    return tools_.curl.Add(easy_->get(), [this](CURLcode code) { OnTransferDone(code); });
  }

  static curl_socket_t OpenSocket(void* /*data*/, curlsocktype /*purpose*/, curl_sockaddr* address) {
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  // Nobody reads it; one without end is cut.
  static size_t OnAnswer(char* /*bytes*/, size_t /*one*/, size_t size, void* data) {
    auto* self = static_cast<WebDelivery*>(data);
    self->answered_ += size;
    return self->answered_ > kMostAnswerBytes ? 0 : size;
  }

  void OnTransferDone(CURLcode code) {
    const long status = easy_->ResponseCode();
    const bool cut = code == CURLE_WRITE_ERROR && answered_ > kMostAnswerBytes;
    if (code != CURLE_OK && !cut) {
      Finish(TransferFailure(tools_.curl.api(), code, status));
    } else if (status < 200 || status > 299) {
      Finish(absl::UnavailableError(fmt::format("HTTP {} (expected 200 to 299)", status)));
    } else {
      Finish(absl::OkStatus());
    }
  }

  void Finish(const absl::Status& status) {
    if (const Done done = std::exchange(done_, nullptr)) {
      done({status});
    }
  }

  DeliveryTools& tools_;
  const ChannelConfig channel_;
  const std::string body_;
  Done done_;
  Place place_;
  std::shared_ptr<Resolver::Query> query_;
  std::unique_ptr<EasyHandle> easy_;
  size_t answered_ = 0;
};

// --------------------------------------------------------------------------------------------------------------- mail

// A mail is sent by a helper thread: libcurl says QUIT when a connection ends, and waits for the answer, on whatever
// thread that is (curl 7.88, smtp_disconnect). It owns all that it needs. Whoever gives up on it hangs up its socket,
// which ends every wait of libcurl's.
class MailJob {
 public:
  MailJob(const CurlApi& api, ChannelConfig channel, std::string body, std::string addresses)
      : api_(api), channel_(std::move(channel)), body_(std::move(body)), addresses_(std::move(addresses)) {}

  // Helper thread. A recipient whom the server refuses keeps the mail from nobody else.
  DeliveryOutcome Run() {
    const absl::Status status = Send();
    return {.status = status, .refused = status.ok() ? fmt::format("{}", fmt::join(refused_, ", ")) : ""};
  }

  // Any thread.
  void GiveUp() {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    if (socket_ >= 0) {
      shutdown(socket_, SHUT_RDWR);
    }
  }

 private:
  absl::Status Send() {
    EasyHandle easy(api_);
    SetCommon(easy, channel_.smtp_url, "smtp,smtps");
    easy.Set(CURLOPT_PROXY, "");
    easy.SetAddresses(addresses_);
    easy.Set(CURLOPT_OPENSOCKETFUNCTION, &MailJob::OpenSocket);
    easy.Set(CURLOPT_OPENSOCKETDATA, this);
    easy.Set(CURLOPT_CLOSESOCKETFUNCTION, &MailJob::CloseSocket);
    easy.Set(CURLOPT_CLOSESOCKETDATA, this);
    easy.Set(CURLOPT_TIMEOUT, kMailSeconds);
    easy.Set(CURLOPT_SERVER_RESPONSE_TIMEOUT, kMailSeconds);
    easy.Set(CURLOPT_USE_SSL, static_cast<long>(CURLUSESSL_TRY));
    easy.Set(CURLOPT_MAIL_FROM, fmt::format("<{}>", channel_.from).c_str());
    std::vector<std::string> recipients;
    for (const std::string& address : channel_.to) {
      recipients.push_back(fmt::format("<{}>", address));
    }
    easy.SetList(CURLOPT_MAIL_RCPT, recipients);
    easy.Set(CURLOPT_MAIL_RCPT_ALLLOWFAILS, 1L);
    easy.Set(CURLOPT_VERBOSE, 1L);  // nothing else tells whom the server refuses
    easy.Set(CURLOPT_DEBUGFUNCTION, &MailJob::OnTrace);
    easy.Set(CURLOPT_DEBUGDATA, this);
    easy.Set(CURLOPT_UPLOAD, 1L);
    easy.Set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body_.size()));
    easy.Set(CURLOPT_READFUNCTION, &MailJob::OnRead);
    easy.Set(CURLOPT_READDATA, this);
    if (absl::Status status = easy.status(); !status.ok()) {
      return status;
    }
    const CURLcode code = api_.easy_perform(easy.get());
    return code == CURLE_OK ? absl::OkStatus() : TransferFailure(api_, code, easy.ResponseCode());
  }

  static curl_socket_t OpenSocket(void* data, curlsocktype /*purpose*/, curl_sockaddr* address) {
    auto* self = static_cast<MailJob*>(data);
    const std::lock_guard lock(self->mutex_);
    if (self->given_up_) {
      return CURL_SOCKET_BAD;
    }
    self->socket_ = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    return self->socket_;
  }

  static int CloseSocket(void* data, curl_socket_t fd) {
    auto* self = static_cast<MailJob*>(data);
    const std::lock_guard lock(self->mutex_);
    if (self->socket_ == fd) {
      self->socket_ = -1;
    }
    return close(fd);
  }

  // Each command, and each line of an answer ("550-no", "550 such user": RFC 5321, section 4.2.1).
  static int OnTrace(CURL* /*easy*/, curl_infotype type, char* bytes, size_t size, void* data) {
    auto* self = static_cast<MailJob*>(data);
    const std::string_view line(bytes, size);
    constexpr std::string_view kRecipient = "RCPT TO:<";
    if (type == CURLINFO_HEADER_OUT) {
      const bool asks = line.starts_with(kRecipient);
      self->asked_ = asks ? line.substr(kRecipient.size(), line.find('>') - kRecipient.size()) : "";
    } else if (type == CURLINFO_HEADER_IN && !self->asked_.empty() && size > 3 && line[3] != '-') {
      if (line[0] != '2') {
        self->refused_.push_back(fmt::format("{} ({})", self->asked_, line.substr(0, 3)));
      }
      self->asked_.clear();
    }
    return 0;
  }

  static size_t OnRead(char* buffer, size_t one, size_t size, void* data) {
    auto* self = static_cast<MailJob*>(data);
    const size_t count = std::min(one * size, self->body_.size() - self->sent_);
    self->sent_ += self->body_.copy(buffer, count, self->sent_);
    return count;
  }

  const CurlApi& api_;  // never unloaded
  const ChannelConfig channel_;
  const std::string body_;
  const std::string addresses_;
  size_t sent_ = 0;
  std::string asked_;  // the recipient that the server is to answer for
  std::vector<std::string> refused_;
  std::mutex mutex_;  // guards what follows
  int socket_ = -1;
  bool given_up_ = false;
};

//   Start -> resolve -> helper thread -> done
class MailDelivery final : public Delivery {
 public:
  MailDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body, Done done)
      : tools_(tools), channel_(channel), body_(std::move(body)), done_(std::make_shared<Done>(std::move(done))) {}
  MailDelivery(const MailDelivery&) = delete;
  MailDelivery& operator=(const MailDelivery&) = delete;
  ~MailDelivery() override {
    query_.reset();
    if (job_ != nullptr) {
      job_->GiveUp();
    }
  }

  absl::Status Start() {
    const absl::StatusOr<const CurlApi*> api = LoadCurl();
    if (!api.ok()) {
      return api.status();
    }
    const absl::StatusOr<Place> place = PlaceOf(**api, channel_.smtp_url);
    if (!place.ok()) {
      return place.status();
    }
    query_ = tools_.resolver.Resolve(
        place->host, [this, &api = **api, place = *place](const absl::StatusOr<AddressList>& addresses) {
          if (!addresses.ok()) {
            (*done_)({addresses.status()});
            return;
          }
          Send(api, ResolvedEntry(place, *addresses));
        });
    return absl::OkStatus();
  }

 private:
  void Send(const CurlApi& api, const std::string& addresses) {
    job_ = std::make_shared<MailJob>(api, channel_, body_, addresses);
    const bool runs =
        tools_.pool.Run(job_, [job = job_, mailbox = tools_.mailbox, wanted = std::weak_ptr<Done>(done_)] {
          const DeliveryOutcome outcome = job->Run();
          mailbox->Post([wanted, outcome] {
            if (const std::shared_ptr<Done> done = wanted.lock()) {
              (*done)(outcome);
            }
          });
        });
    if (!runs) {
      (*done_)({absl::ResourceExhaustedError("no thread for it can be made")});
    }
  }

  DeliveryTools& tools_;
  const ChannelConfig channel_;
  const std::string body_;
  std::shared_ptr<Done> done_;  // goes with this
  std::shared_ptr<Resolver::Query> query_;
  std::shared_ptr<MailJob> job_;
};

// What is wrong from the beginning, told on a later turn as everything is.
class RefusedDelivery final : public Delivery {
 public:
  explicit RefusedDelivery(std::unique_ptr<Loop::Timer> timer) : timer_(std::move(timer)) {}

 private:
  std::unique_ptr<Loop::Timer> timer_;
};

template <typename Kind>
std::unique_ptr<Delivery> Started(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                  Delivery::Done done) {
  auto delivery = std::make_unique<Kind>(tools, channel, std::move(body), done);
  const absl::Status status = delivery->Start();
  if (status.ok()) {
    return delivery;
  }
  auto timer = tools.loop.NewTimer([done = std::move(done), status] { done({status}); });
  timer->ArmAfter(absl::ZeroDuration());
  return std::make_unique<RefusedDelivery>(std::move(timer));
}

}  // namespace

std::unique_ptr<Delivery> Delivery::Begin(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                          Done done) {
  return channel.type == ChannelType::kEmail ? Started<MailDelivery>(tools, channel, std::move(body), std::move(done))
                                             : Started<WebDelivery>(tools, channel, std::move(body), std::move(done));
}

}  // namespace supervisor
