#include <utility>

#include "daemon/health/probe.h"
#include "daemon/health/text.h"

namespace supervisor {
namespace {

// Hands the check to whoever speaks gRPC (Checker::SetGrpcProbe) and keeps its deadline.
class GrpcProbe final : public Probe {
 public:
  GrpcProbe(ProbeTools& tools, ProbeRequest request, Checker::GrpcProbe probe)
      : tools_(tools),
        request_(std::move(request)),
        probe_(std::move(probe)),
        self_(std::make_shared<GrpcProbe*>(this)) {}

  GrpcProbe(const GrpcProbe&) = delete;
  GrpcProbe& operator=(const GrpcProbe&) = delete;
  ~GrpcProbe() override {
    if (cancel_) {
      cancel_();
    }
  }

  void Begin() override {
    if (!probe_) {
      request_.finish({.message = "this supervisord was built without gRPC checks: use type http or tcp"});
      return;
    }
    cancel_ = probe_(request_.config, request_.target,
                     [mailbox = tools_.mailbox, weak = std::weak_ptr<GrpcProbe*>(self_)](const CheckResult& result) {
                       mailbox->Post([weak, success = result.success, message = result.message] {
                         if (const auto self = weak.lock()) {
                           (*self)->request_.finish({.success = success, .message = message});
                         }
                       });
                     });
  }

  void DeadlinePassed() override {
    request_.finish({.message = "timed out after " + DurationText(request_.config.timeout)});
  }

 private:
  ProbeTools& tools_;
  ProbeRequest request_;
  Checker::GrpcProbe probe_;
  std::function<void()> cancel_;
  std::shared_ptr<GrpcProbe*> self_;
};

}  // namespace

std::unique_ptr<Probe> NewGrpcProbe(ProbeTools& tools, ProbeRequest request, Checker::GrpcProbe probe) {
  return std::make_unique<GrpcProbe>(tools, std::move(request), std::move(probe));
}

}  // namespace supervisor
