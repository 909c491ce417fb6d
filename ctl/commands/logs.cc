#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "ctl/commands/commands.h"
#include "ctl/commands/stream.h"
#include "ctl/render/json.h"
#include "ctl/render/log_lines.h"
#include "ctl/render/table.h"
#include "ctl/render/utf8.h"

namespace supervisor {
namespace {

v1::LogsRequest MakeRequest(const Invocation& invocation) {
  v1::LogsRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  request.set_follow(invocation.follow);
  if (invocation.count) {
    request.set_lines(*invocation.count);
  }
  request.set_since_unix_ms(invocation.since_unix_ms);
  request.set_until_unix_ms(invocation.until_unix_ms);
  request.set_grep(invocation.grep);
  request.set_stderr(invocation.stderr_log);
  request.set_times(invocation.json);
  return request;
}

// Which way the bytes are shown: exactly as they are, line by line behind the name of who wrote them, or as JSON.
enum class Shape { kRaw, kPrefixed, kJsonLines, kJsonObject };

class LogsCommand : public StreamCommand<v1::LogsRequest, v1::LogChunk> {
 public:
  LogsCommand(const Invocation& invocation, Shape shape, size_t name_width, Output& output)
      : StreamCommand("logs", invocation.follow, MakeRequest(invocation)),
        shape_(shape),
        escapes_(Output::IsTerminal() && !invocation.raw),
        name_width_(name_width),
        output_(output),
        lines_([this](const v1::LogChunk& origin, std::string_view line) { PrintLine(origin, line); }) {}

  std::unique_ptr<grpc::ClientReader<v1::LogChunk>> Open(Client& client, grpc::ClientContext& context,
                                                         const v1::LogsRequest& request) override {
    return client.stub().Logs(&context, request);
  }

  void OnMessage(const v1::LogChunk& chunk) override {
    if (!chunk.notice().empty()) {
      output_.Message(fmt::format("{}: {}", chunk.id(), chunk.notice()));
    }
    if (chunk.has_next()) {
      (*after_.mutable_after())[chunk.id()] = chunk.next();
    }
    if (const uint64_t missed = chunk.missed_bytes(); missed != 0) {
      output_.Message(fmt::format("{}: {} bytes of the log are left out here", chunk.id(), missed));
    }
    if (chunk.data().empty()) {
      return;
    }
    if (shape_ == Shape::kRaw && IsOfAnother(chunk)) {
      NameFromNowOn();
    }
    if (shape_ == Shape::kRaw) {
      if (escapes_) {
        output_.Print(text_.Feed(chunk.data()));
      } else {
        output_.Print(chunk.data());
      }
      raw_id_ = chunk.id();
      raw_line_is_open_ = chunk.data().back() != '\n';
    } else {
      lines_.Feed(chunk);
    }
    if (follow()) {
      output_.Flush();
    }
  }

  // Each log goes on behind its last chunk, to the byte.
  v1::LogsRequest ResumeRequest(const v1::LogsRequest& first) override {
    v1::LogsRequest request = first;
    *request.mutable_after() = after_.after();
    return request;
  }

  void Begin() {
    if (shape_ == Shape::kJsonObject) {
      json_.BeginObject().Key("lines").BeginArray();
    }
  }

  // Part of the object is out, and an error object cannot take its place any more.
  bool object_begun() const { return drained_; }

  // The ends without a newline, and the object's own end.
  void End() {
    output_.Print(text_.End());
    lines_.Flush();
    if (shape_ == Shape::kJsonObject) {
      json_.EndArray().EndObject();
      output_.PrintJson(json_.text());
    }
  }

 private:
  bool IsOfAnother(const v1::LogChunk& chunk) const { return !raw_id_.empty() && chunk.id() != raw_id_; }

  // A reload has added an instance to what is followed: bytes alone would not tell whose they are any more.
  void NameFromNowOn() {
    output_.Print(text_.End());
    if (std::exchange(raw_line_is_open_, false)) {
      output_.Print("\n");
    }
    output_.Message("logs: there are several now, so each line begins with its service's name from here on");
    shape_ = Shape::kPrefixed;
  }

  void PrintLine(const v1::LogChunk& origin, std::string_view line) {
    switch (shape_) {
      case Shape::kRaw:
        return;  // raw bytes go by lines_
      case Shape::kPrefixed:
        output_.Print(Prefix(origin.id()));
        if (escapes_) {
          PrintEscaped(line);
        } else {
          output_.Print(line);
        }
        output_.Print("\n");
        return;
      case Shape::kJsonLines: {
        JsonWriter json;
        WriteLogLine(json, origin, line);
        output_.PrintJson(json.text());
        return;
      }
      case Shape::kJsonObject:
        WriteLogLine(json_, origin, line);
        if (json_.text().size() >= kDrainAt) {
          drained_ = true;
          output_.Print(json_.Drain());
        }
        return;
    }
  }

  void PrintEscaped(std::string_view line) {
    TerminalText text;
    output_.Print(text.Feed(line));
    output_.Print(text.End());
  }

  const std::string& Prefix(const std::string& id) {
    constexpr std::array<Color, 4> kColors = {Color::kCyan, Color::kYellow, Color::kGreen, Color::kRed};
    const auto [entry, is_new] = prefixes_.try_emplace(id);
    if (is_new) {
      const std::string name = EscapeForTerminal(id);
      const std::string padding(name_width_ - std::min(name_width_, DisplayWidth(name)), ' ');
      entry->second = Colored(fmt::format("{}{} | ", name, padding),
                              kColors.at((prefixes_.size() - 1) % kColors.size()), output_.color());
    }
    return entry->second;
  }

  Shape shape_;
  bool escapes_;        // a terminal shows it: it is not to obey what services wrote
  TerminalText text_;   // kRaw: of the one log
  std::string raw_id_;  // whose bytes were shown without a name
  bool raw_line_is_open_ = false;
  size_t name_width_;
  Output& output_;
  LogLines lines_;
  v1::LogsRequest after_;  // the places alone
  static constexpr size_t kDrainAt = size_t{64} << 10U;
  JsonWriter json_;  // kJsonObject: what is not printed yet
  bool drained_ = false;
  std::map<std::string, std::string> prefixes_;
};

}  // namespace

ExitCode RunLogs(const Invocation& invocation, Client& client, Output& output) {
  // Only the daemon knows whether a target is one instance, whose bytes are shown as they are, or several.
  v1::StatusRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  v1::StatusResponse status;
  const auto unknown = client.Read(&Client::Stub::Status, request, &status, "logs");
  // A service that is configured no more may have left a log: the call itself tells.
  if (unknown && unknown->exit_code != ExitCode::kNoSuchService) {
    return output.Fail(*unknown);
  }
  size_t name_width = 0;
  for (const v1::ServiceStatus& service : status.services()) {
    name_width = std::max(name_width, DisplayWidth(EscapeForTerminal(service.id())));
  }
  const bool several = unknown ? invocation.targets.size() > 1 : status.services().size() > 1;
  Shape shape = several ? Shape::kPrefixed : Shape::kRaw;
  if (output.json()) {
    shape = invocation.follow ? Shape::kJsonLines : Shape::kJsonObject;
  }
  if (invocation.follow) {
    output.WatchReader();
  }
  LogsCommand command(invocation, shape, name_width, output);
  command.Begin();
  const auto failure = command.Run(client, output);
  if (failure && shape == Shape::kJsonObject && !command.object_begun()) {
    return output.Fail(*failure);
  }
  command.End();
  return failure ? output.FailStream(*failure) : ExitCode::kDone;
}

}  // namespace supervisor
