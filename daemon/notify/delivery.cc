#include "daemon/notify/delivery.h"

#include <utility>

namespace supervisor {
namespace {

// What is wrong from the beginning, told on a later turn as everything is.
class RefusedDelivery final : public Delivery {
 public:
  explicit RefusedDelivery(std::unique_ptr<Loop::Timer> timer) : timer_(std::move(timer)) {}

 private:
  absl::Status Start() override { return absl::OkStatus(); }

  std::unique_ptr<Loop::Timer> timer_;
};

}  // namespace

std::unique_ptr<Delivery> Delivery::Begin(DeliveryTools& tools, const ChannelConfig& channel, std::string body,
                                          const Done& done) {
  std::unique_ptr<Delivery> delivery = channel.type == ChannelType::kEmail
                                           ? NewMailDelivery(tools, channel, std::move(body), done)
                                           : NewWebDelivery(tools, channel, std::move(body), done);
  const absl::Status status = delivery->Start();
  if (status.ok()) {
    return delivery;
  }
  auto timer = tools.loop.NewTimer([done, status] { done({.status = status}); });
  timer->ArmAfter(absl::ZeroDuration());
  return std::make_unique<RefusedDelivery>(std::move(timer));
}

DeliveryFailure FailureOfStatus(long status) {
  constexpr long kFirstClientError = 400;
  constexpr long kFirstServerError = 500;
  switch (status) {
    case 408:  // Request Timeout
    case 421:  // Misdirected Request
    case 423:  // Locked
    case 425:  // Too Early
    case 429:  // Too Many Requests
    case 502:  // Bad Gateway
    case 503:  // Service Unavailable
    case 504:  // Gateway Timeout
      return DeliveryFailure::kUnreachable;
    case 401:  // Unauthorized
    case 402:  // Payment Required
    case 403:  // Forbidden
    case 404:  // Not Found
    case 405:  // Method Not Allowed
    case 407:  // Proxy Authentication Required
    case 410:  // Gone
      return DeliveryFailure::kFault;
    default:
      break;
  }
  if (status >= kFirstServerError) {
    return DeliveryFailure::kServerError;
  }
  if (status >= kFirstClientError) {
    return DeliveryFailure::kRefused;
  }
  constexpr long kFirstRedirect = 300;
  return status >= kFirstRedirect ? DeliveryFailure::kFault : DeliveryFailure::kUnreachable;
}

}  // namespace supervisor
