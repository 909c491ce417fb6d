#pragma once

#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "ctl/client.h"
#include "ctl/output.h"

namespace supervisor {

// A call that answers with a stream, and goes on over a daemon that is replaced: the crash, the upgrade and the
// restart of a daemon are one path, and a follower does not end with it.
template <class Request, class Message>
class StreamCommand {
 public:
  StreamCommand(std::string_view what, bool follow, Request first)
      : what_(what), follow_(follow), first_(std::move(first)) {}
  StreamCommand(const StreamCommand&) = delete;
  StreamCommand& operator=(const StreamCommand&) = delete;
  virtual ~StreamCommand() = default;

  // Until the stream ends in good order, its reader is gone, or it cannot go on.
  std::optional<Failure> Run(Client& client, const Output& output) {
    if (!client.connected()) {
      if (std::optional<Failure> failure = client.Connect()) {
        return failure;
      }
    }
    Request request = first_;
    MonoTime give_up_at = MonotonicNow() + kPatience;
    for (;;) {
      const MonoTime opened = MonotonicNow();
      grpc::ClientContext context;
      const std::unique_ptr<grpc::ClientReader<Message>> reader = Open(client, context, request);
      Message message;
      bool any = false;
      while (!output.closed() && reader->Read(&message)) {
        any = true;
        OnMessage(message);
      }
      if (output.closed()) {
        return std::nullopt;
      }
      received_ = received_ || any;
      // Patience is for a daemon that is coming back: a stream that was quiet for an hour has not used it up.
      if (any || MonotonicNow() - opened >= kSteady) {
        give_up_at = MonotonicNow() + kPatience;
      }
      const grpc::Status status = reader->Finish();
      if (status.ok()) {
        return std::nullopt;
      }
      if (std::optional<Failure> failure = Recover(client, status, give_up_at)) {
        return failure;
      }
      request = ResumeRequest(first_);
    }
  }

 protected:
  virtual std::unique_ptr<grpc::ClientReader<Message>> Open(Client& client, grpc::ClientContext& context,
                                                            const Request& request) = 0;
  virtual void OnMessage(const Message& message) = 0;
  // What to ask a new daemon for, so that nothing is left out or doubled.
  virtual Request ResumeRequest(const Request& first) = 0;

  bool follow() const { return follow_; }

 private:
  static constexpr absl::Duration kPatience = absl::Seconds(10);
  static constexpr absl::Duration kSteady = absl::Seconds(1);

  // Nothing: connected again.
  std::optional<Failure> Recover(Client& client, const grpc::Status& status, MonoTime give_up_at) {
    // Half an answer cannot be put together with another half, unless the stream knows how.
    const bool can_resume = follow_ || !received_;
    if (!client.IsTransient(status) || !can_resume || MonotonicNow() >= give_up_at) {
      Failure failure = ToFailure(status, what_);
      if (client.ConnectionLost(status)) {
        failure.exit_code = ExitCode::kUnreachable;
        failure.code = "unavailable";
        failure.message = std::string(what_) + ": the connection to the daemon was lost: " + status.error_message();
      }
      return failure;
    }
    return client.Reconnect();
  }

  std::string_view what_;
  bool follow_;
  Request first_;
  bool received_ = false;
};

}  // namespace supervisor
