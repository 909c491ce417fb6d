#include <fmt/format.h>

#include <utility>
#include <vector>

#include "daemon/health/probe.h"
#include "daemon/health/text.h"

namespace supervisor {
namespace {

// Looks up the name, hands the question to whoever speaks gRPC (Checker::SetGrpcProbe), address after address until
// somebody is there, and keeps the deadline.
class GrpcProbe final : public Probe {
 public:
  GrpcProbe(ProbeTools& tools, ProbeRequest request, Checker::GrpcProbe probe)
      : tools_(tools),
        request_(std::move(request)),
        probe_(std::move(probe)),
        self_(std::make_shared<GrpcProbe*>(this)) {}

  GrpcProbe(const GrpcProbe&) = delete;
  GrpcProbe& operator=(const GrpcProbe&) = delete;
  ~GrpcProbe() override { Hangup(); }

  void Begin() override {
    const HealthCheckConfig& config = request_.config;
    if (!probe_) {
      request_.finish({.message = "this supervisord was built without gRPC checks: use type http or tcp"});
      return;
    }
    began_ = MonotonicNow();
    if (!config.unix_socket.empty()) {
      addresses_ = {fmt::format("unix:{}", config.unix_socket)};
      AskNext();
      return;
    }
    query_ = tools_.resolver.Resolve(config.host, [this](const absl::StatusOr<AddressList>& found) {
      if (!found.ok()) {
        request_.finish({.message = std::string(found.status().message())});
        return;
      }
      for (const SocketAddress& address : *found) {
        const char* family = address.storage.ss_family == AF_INET ? "ipv4" : "ipv6";
        addresses_.push_back(fmt::format("{}:{}", family, address.WithPort(request_.config.port).ToString()));
      }
      AskNext();
    });
  }

  void DeadlinePassed() override {
    const std::string doing = addresses_.empty() ? fmt::format("resolving {}", request_.config.host)
                                                 : fmt::format("waiting for an answer from {}", addresses_[next_ - 1]);
    request_.finish({.message = fmt::format("timed out after {} ({})", DurationText(request_.config.timeout), doing),
                     .timed_out = true});
  }

 private:
  void AskNext() {
    Hangup();
    const HealthCheckConfig& config = request_.config;
    const Checker::GrpcRequest request{
        .address = addresses_[next_++],
        .authority = config.unix_socket.empty() ? fmt::format("{}:{}", config.host, config.port) : "localhost",
        .service = config.service};
    cancel_ = probe_(request, [mailbox = tools_.mailbox, weak = std::weak_ptr<GrpcProbe*>(self_),
                               asked = next_](const Checker::GrpcAnswer& answer) {
      mailbox->Post([weak, asked, answer] {
        if (const auto self = weak.lock(); self != nullptr && (*self)->next_ == asked) {
          (*self)->OnAnswer(answer);
        }
      });
    });
  }

  void OnAnswer(const Checker::GrpcAnswer& answer) {
    if (!answer.connected && next_ < addresses_.size()) {
      AskNext();
      return;
    }
    std::string message = OneLineTail(answer.message, kMostMessageBytes);
    if (answer.success) {
      message += fmt::format(" in {}", DurationText(MonotonicNow() - began_));
    } else if (!answer.connected) {
      message += fmt::format(" ({})", addresses_[next_ - 1]);
    }
    request_.finish({.success = answer.success, .message = std::move(message)});
  }

  void Hangup() {
    if (cancel_) {
      std::exchange(cancel_, nullptr)();
    }
  }

  static constexpr size_t kMostMessageBytes = 1024;

  ProbeTools& tools_;
  ProbeRequest request_;
  Checker::GrpcProbe probe_;
  MonoTime began_;
  std::shared_ptr<Resolver::Query> query_;
  std::vector<std::string> addresses_;
  size_t next_ = 0;  // of addresses_: all before were asked
  std::function<void()> cancel_;
  std::shared_ptr<GrpcProbe*> self_;
};

}  // namespace

std::unique_ptr<Probe> NewGrpcProbe(ProbeTools& tools, ProbeRequest request, Checker::GrpcProbe probe) {
  return std::make_unique<GrpcProbe>(tools, std::move(request), std::move(probe));
}

}  // namespace supervisor
