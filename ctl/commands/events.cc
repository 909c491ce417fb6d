#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>

#include "ctl/commands/commands.h"
#include "ctl/commands/stream.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

namespace supervisor {
namespace {

// As many as the daemon answers at most: for a span, and after a lost connection, when everything that was missed is
// wanted and not the newest few.
constexpr uint32_t kMostEvents = 100000;

// The daemon is asked all the same: whether it is there, and knows the targets.
bool WantsNone(const Invocation& invocation) { return !invocation.follow && invocation.count == 0; }

v1::EventsRequest MakeRequest(const Invocation& invocation) {
  v1::EventsRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  request.set_follow(invocation.follow);
  request.set_since_unix_ms(invocation.since_unix_ms);
  request.set_until_unix_ms(invocation.until_unix_ms);
  request.mutable_types()->Assign(invocation.types.begin(), invocation.types.end());
  const bool has_span = invocation.since_unix_ms != 0 || invocation.until_unix_ms != 0;
  // Followed events are the live ones, unless -n or --since asks for history before them.
  request.set_no_history(invocation.follow && invocation.count.value_or(0) == 0 && !has_span);
  // 0 would ask for the default; a span is wanted whole.
  const uint64_t count = WantsNone(invocation) ? 1 : invocation.count.value_or(has_span ? kMostEvents : 0);
  request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(count, std::numeric_limits<uint32_t>::max())));
  return request;
}

class EventsCommand : public StreamCommand<v1::EventsRequest, v1::Event> {
 public:
  EventsCommand(const Invocation& invocation, Output& output)
      : StreamCommand("events", invocation.follow, MakeRequest(invocation)),
        output_(output),
        wants_none_(WantsNone(invocation)) {}

  std::unique_ptr<grpc::ClientReader<v1::Event>> Open(Client& client, grpc::ClientContext& context,
                                                      const v1::EventsRequest& request) override {
    return client.stub().Events(&context, request);
  }

  void OnMessage(const v1::Event& event) override {
    if (wants_none_) {
      return;
    }
    ++received_;
    last_id_ = std::max(last_id_, event.id());
    if (event.missed() != 0) {
      output_.Message(fmt::format("{} events were left out here: this reader is too slow", event.missed()));
    }
    if (!output_.json()) {
      PrintHeaderOnce();
      output_.Print(EventLine(event, output_.color()));
    } else if (follow()) {
      output_.PrintJson(EventJson(event));
    } else {
      *collected_.Add() = event;
    }
    if (follow()) {
      output_.Flush();
    }
  }

  // What is followed begins behind the newest event that there is, named by its id: so a stream that breaks before its
  // first event goes on without a gap too.
  std::optional<Failure> BeginAtNewest(Client& client) {
    for (int attempt = 0;; ++attempt) {
      v1::EventsRequest request;
      request.set_limit(1);
      grpc::ClientContext context;
      const std::unique_ptr<grpc::ClientReader<v1::Event>> reader = client.stub().Events(&context, request);
      v1::Event event;
      while (reader->Read(&event)) {
        last_id_ = std::max(last_id_, event.id());
      }
      const grpc::Status status = reader->Finish();
      if (status.ok() || !client.IsTransient(status) || attempt == kAttempts) {
        return std::nullopt;  // what is wrong, if so, the stream itself tells
      }
      if (std::optional<Failure> failure = client.Reconnect()) {
        return failure;
      }
    }
  }

  v1::EventsRequest ResumeRequest(const v1::EventsRequest& first) override {
    v1::EventsRequest request = first;
    if (last_id_ != 0) {
      request.set_after_id(last_id_);
      request.set_no_history(false);
      request.set_limit(kMostEvents);
    }
    return request;
  }

  void PrintHeaderOnce() {
    if (!header_printed_ && !wants_none_) {
      header_printed_ = true;
      output_.Print(EventsHeader(output_.color()));
    }
  }

  uint64_t received() const { return received_; }
  const google::protobuf::RepeatedPtrField<v1::Event>& collected() const { return collected_; }

 private:
  static constexpr int kAttempts = 20;
  Output& output_;
  const bool wants_none_;
  uint64_t received_ = 0;
  int64_t last_id_ = 0;
  bool header_printed_ = false;
  google::protobuf::RepeatedPtrField<v1::Event> collected_;
};

}  // namespace

ExitCode RunEvents(const Invocation& invocation, Client& client, Output& output) {
  EventsCommand command(invocation, output);
  if (invocation.follow) {
    if (const auto failure = client.Connect()) {
      return output.FailStream(*failure);
    }
    if (const auto failure = command.BeginAtNewest(client)) {
      return output.FailStream(*failure);
    }
    output.WatchReader();
    if (!output.json()) {
      command.PrintHeaderOnce();
      output.Flush();
    }
  }
  if (const auto failure = command.Run(client, output)) {
    return invocation.follow ? output.FailStream(*failure) : output.Fail(*failure);
  }
  if (!invocation.follow) {
    if (output.json()) {
      output.PrintJson(EventsJson(command.collected()));
    } else {
      command.PrintHeaderOnce();
    }
    if (!invocation.count && command.received() == kMostEvents) {
      output.Message(fmt::format("only the newest {} events are shown; a smaller span has the others", kMostEvents));
    }
  }
  return ExitCode::kDone;
}

}  // namespace supervisor
