#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/config/mail_address.h"
#include "daemon/notify/delivery.h"
#include "daemon/notify/easy_handle.h"
#include "daemon/notify/mail_server.h"

namespace supervisor {
namespace {

constexpr long kMailSeconds = 10;  // of a whole mail
constexpr long kFirstPermanent = 500;

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

// The bare address, as the protocol has it.
std::string AddressOf(const std::string& text) {
  const absl::StatusOr<Mailbox> mailbox = ParseMailbox(text);
  return fmt::format("<{}>", mailbox.ok() ? mailbox->address : text);
}

// A mail is sent by a helper thread: libcurl says QUIT when a connection ends, and waits for the answer, on whatever
// thread that is (curl 7.88, smtp_disconnect). It owns all that it needs. Whoever gives up on it hangs up its socket,
// which ends every wait of libcurl's.
class MailJob {
 public:
  MailJob(const CurlApi& api, ChannelConfig channel, std::string body, Place place, AddressList addresses)
      : api_(api),
        channel_(std::move(channel)),
        body_(std::move(body)),
        place_(std::move(place)),
        addresses_(std::move(addresses)) {}

  // Helper thread. A recipient whom the server refuses keeps the mail from nobody else.
  DeliveryOutcome Run() {
    DeliveryOutcome outcome;
    outcome.status = Send(outcome.failed.failure);
    outcome.refused = outcome.status.ok() ? fmt::format("{}", fmt::join(refused_, ", ")) : "";
    return outcome;
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
  absl::Status Send(DeliveryFailure& failure) {
    const MailServer server = MailServerOf(channel_);
    EasyHandle easy(api_, server.url, "smtp,smtps");
    easy.Set(CURLOPT_PROXY, "");
    easy.SetAddresses(place_.host, place_.port, addresses_);
    easy.SetTrust(channel_);
    if (!server.username.empty()) {
      easy.Set(CURLOPT_USERNAME, server.username.c_str());
      easy.Set(CURLOPT_PASSWORD, server.password.c_str());
    }
    if (!server.login_options.empty()) {
      easy.Set(CURLOPT_LOGIN_OPTIONS, server.login_options.c_str());
    }
    easy.Set(CURLOPT_OPENSOCKETFUNCTION, &MailJob::OpenSocket);
    easy.Set(CURLOPT_OPENSOCKETDATA, this);
    easy.Set(CURLOPT_CLOSESOCKETFUNCTION, &MailJob::CloseSocket);
    easy.Set(CURLOPT_CLOSESOCKETDATA, this);
    easy.Set(CURLOPT_TIMEOUT, kMailSeconds);
    easy.Set(CURLOPT_SERVER_RESPONSE_TIMEOUT, kMailSeconds);
    easy.Set(CURLOPT_USE_SSL, static_cast<long>(CURLUSESSL_TRY));
    easy.Set(CURLOPT_MAIL_FROM, AddressOf(channel_.from).c_str());
    std::vector<std::string> recipients;
    for (const std::string& address : channel_.to) {
      recipients.push_back(AddressOf(address));
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
    if (code == CURLE_OK) {
      return absl::OkStatus();
    }
    // 4yz: later; 5yz: for good (RFC 5321, section 4.2.1), which may be the login, an address or this mail.
    const bool is_for_good = code == CURLE_LOGIN_DENIED || easy.ResponseCode() >= kFirstPermanent;
    failure = is_for_good ? DeliveryFailure::kFault : DeliveryFailure::kUnreachable;
    return easy.Failure(code, channel_);
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
  const Place place_;
  const AddressList addresses_;
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

 private:
  absl::Status Start() override {
    const absl::StatusOr<const CurlApi*> api = LoadCurl();
    if (!api.ok()) {
      return api.status();
    }
    const absl::StatusOr<Place> place = PlaceOf(**api, MailServerOf(channel_).url);
    if (!place.ok()) {
      return place.status();
    }
    query_ = tools_.resolver.Resolve(
        place->host, [this, &api = **api, place = *place](const absl::StatusOr<AddressList>& addresses) {
          if (!addresses.ok()) {
            (*done_)({.status = addresses.status()});
            return;
          }
          Send(api, place, *addresses);
        });
    return absl::OkStatus();
  }

  void Send(const CurlApi& api, const Place& place, const AddressList& addresses) {
    job_ = std::make_shared<MailJob>(api, channel_, body_, place, addresses);
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
      (*done_)({.status = absl::ResourceExhaustedError("no thread for it can be made")});
    }
  }

  DeliveryTools& tools_;
  const ChannelConfig channel_;
  const std::string body_;
  std::shared_ptr<Done> done_;  // goes with this
  std::shared_ptr<Resolver::Query> query_;
  std::shared_ptr<MailJob> job_;
};

}  // namespace

std::unique_ptr<Delivery> NewMailDelivery(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                          Delivery::Done done) {
  return std::make_unique<MailDelivery>(tools, channel, std::move(body), std::move(done));
}

}  // namespace supervisor
