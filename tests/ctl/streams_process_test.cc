// logs and events: exact bytes, prefixes, following, and the ways a stream ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <nlohmann/json.hpp>

#include "tests/ctl/ctl_process.h"
#include "tests/ctl/fake_supervisor.h"

namespace supervisor {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class StreamsTest : public testing::Test {
 protected:
  static v1::LogChunk Chunk(const std::string& id, const std::string& data, uint64_t offset = 0) {
    v1::LogChunk chunk;
    chunk.set_id(id);
    chunk.set_stream(v1::LOG_STREAM_STDOUT);
    chunk.set_data(data);
    chunk.set_offset(offset);
    return chunk;
  }
  static v1::Event Event(int64_t id, const std::string& type) {
    v1::Event event;
    event.set_id(id);
    event.set_service_id("web");
    event.set_event_type(type);
    return event;
  }
  // A followed stream stays open until its reader goes.
  static void UntilCancelled(grpc::ServerContext* context) {
    while (!context->IsCancelled()) {
      std::unique_lock lock(Mutex());
      Tick().wait_for(lock, std::chrono::milliseconds(5));
    }
  }
  static std::mutex& Mutex() {
    static std::mutex mutex;
    return mutex;
  }
  static std::condition_variable& Tick() {
    static std::condition_variable tick;
    return tick;
  }
  void AnswerStatusWith(const std::vector<std::string>& ids) {
    answers_.status = [ids](const v1::StatusRequest&, v1::StatusResponse* response) {
      for (const std::string& id : ids) {
        response->add_services()->set_id(id);
      }
      return grpc::Status::OK;
    };
  }
  void AnswerLogsWith(const std::vector<v1::LogChunk>& chunks) {
    answers_.logs = [this, chunks](const v1::LogsRequest& request, grpc::ServerContext* context,
                                   grpc::ServerWriter<v1::LogChunk>* writer) {
      seen_ = request;
      for (const v1::LogChunk& chunk : chunks) {
        writer->Write(chunk);
      }
      if (request.follow()) {
        UntilCancelled(context);
      }
      return grpc::Status::OK;
    };
  }
  CtlResult Run(std::vector<std::string> arguments) {
    const FakeSupervisor fake(socket_, &answers_);
    arguments.insert(arguments.begin(), {"--socket", socket_});
    return RunCtl(arguments);
  }

  TemporaryDirectory directory_;
  std::string socket_ = directory_.path() + "/s.sock";
  FakeAnswers answers_;
  v1::LogsRequest seen_;
};

TEST_F(StreamsTest, OneLogIsItsExactBytes) {
  AnswerStatusWith({"web"});
  std::string bytes;
  for (int i = 0; i < 70000; ++i) {
    bytes += static_cast<char>((i * 7919) >> 3);
  }
  AnswerLogsWith({Chunk("web", bytes), Chunk("web", "no newline at the end", bytes.size())});
  const CtlResult result =
      Run({"logs", "web", "-n", "20", "--since", "@5", "--until", "@6", "--grep", "a|b", "--stderr"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, bytes + "no newline at the end");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(seen_.lines(), 20U);
  EXPECT_EQ(seen_.since_unix_ms(), 5000);
  EXPECT_EQ(seen_.until_unix_ms(), 6000);
  EXPECT_EQ(seen_.grep(), "a|b");
  EXPECT_TRUE(seen_.stderr());
}

TEST_F(StreamsTest, ThereIsNoCountUnlessGiven) {
  AnswerStatusWith({"web"});
  AnswerLogsWith({});
  EXPECT_EQ(Run({"logs", "web"}).exit_code, 0);
  EXPECT_FALSE(seen_.has_lines());
}

TEST_F(StreamsTest, SeveralLogsComeBehindTheirNames) {
  AnswerStatusWith({"web", "worker:0"});
  AnswerLogsWith({Chunk("web", "one\ntw"), Chunk("worker:0", "other\n"), Chunk("web", "o\nend", 6)});
  const CtlResult result = Run({"logs", "all"});
  EXPECT_EQ(result.out, "web      | one\nworker:0 | other\nweb      | two\nweb      | end\n");
}

TEST_F(StreamsTest, JsonIsOneObjectWhateverTheBytes) {
  AnswerStatusWith({"web"});
  AnswerLogsWith({Chunk("web", std::string("bad \xFF\xC3 \0 byte\nlast", 18))});
  const CtlResult result = Run({"logs", "web", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const Json lines = Json::parse(result.out)["lines"];
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["service_id"], "web");
  EXPECT_EQ(lines[0]["stream"], "stdout");
  EXPECT_TRUE(lines[0]["timestamp"].is_null());
  EXPECT_EQ(lines[1]["line"], "last");
}

TEST_F(StreamsTest, ALargeLogIsStillOneObject) {
  AnswerStatusWith({"web"});
  std::string lines;
  for (int i = 0; i < 10000; ++i) {
    lines += "line " + std::to_string(i) + "\n";
  }
  AnswerLogsWith({Chunk("web", lines)});
  const CtlResult result = Run({"logs", "web", "--json", "-n", "all"});
  const Json parsed = Json::parse(result.out)["lines"];
  ASSERT_EQ(parsed.size(), 10000U);
  EXPECT_EQ(parsed[9999]["line"], "line 9999");
}

TEST_F(StreamsTest, RemarksAndGapsGoToStderr) {
  AnswerStatusWith({"web"});
  v1::LogChunk gap = Chunk("web", "after\n", 100);
  gap.set_missed_bytes(42);
  v1::LogChunk notice;
  notice.set_id("web");
  notice.set_notice("log rotated");
  AnswerLogsWith({gap, notice});
  const CtlResult result = Run({"logs", "web"});
  EXPECT_EQ(result.out, "after\n");
  EXPECT_THAT(result.err, HasSubstr("web: 42 bytes of the log are left out here"));
  EXPECT_THAT(result.err, HasSubstr("web: log rotated"));
}

TEST_F(StreamsTest, FollowingEndsAtOnceAndQuietlyOnSigint) {
  AnswerStatusWith({"web"});
  AnswerLogsWith({Chunk("web", "first\n")});
  const FakeSupervisor fake(socket_, &answers_);
  CtlProcess process({"logs", "web", "-f", "--socket", socket_});
  EXPECT_EQ(process.ReadLine(), "first");
  process.Signal(SIGINT);
  const CtlResult result = process.Wait();
  EXPECT_EQ(result.exit_signal, SIGINT);
  EXPECT_EQ(result.err, "");
}

TEST_F(StreamsTest, FollowingEndsWhenTheReaderGoes) {
  AnswerStatusWith({"web"});
  AnswerLogsWith({Chunk("web", "first\n")});
  const FakeSupervisor fake(socket_, &answers_);
  CtlProcess process({"logs", "web", "-f", "--socket", socket_});
  EXPECT_EQ(process.ReadLine(), "first");
  process.CloseStdout();  // and nothing more is written that would meet EPIPE
  const CtlResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
}

TEST_F(StreamsTest, FollowingEndsWhenTheStreamDoes) {
  AnswerStatusWith({"web"});
  answers_.logs = [](const v1::LogsRequest&, grpc::ServerContext*, grpc::ServerWriter<v1::LogChunk>* writer) {
    writer->Write(Chunk("web", "last words"));
    return grpc::Status::OK;
  };
  const CtlResult result = Run({"logs", "web", "-f"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "last words");
}

TEST_F(StreamsTest, ALogGoesOnOverANewDaemonWithoutGapOrDouble) {
  AnswerStatusWith({"web"});
  FakeSupervisor* current = nullptr;
  std::atomic<int> calls = 0;
  answers_.logs = [&](const v1::LogsRequest& request, grpc::ServerContext* context,
                      grpc::ServerWriter<v1::LogChunk>* writer) {
    const auto write = [&](const std::string& data, uint64_t end) {
      v1::LogChunk chunk = Chunk("web", data, end - data.size());
      chunk.mutable_next()->set_inode(7);
      chunk.mutable_next()->set_offset(end);
      writer->Write(chunk);
    };
    if (++calls == 1) {
      EXPECT_TRUE(request.after().empty());
      write("one\ntwo\n", 108);
      current->DropConnections();
    } else if (const auto after = request.after().find("web"); after == request.after().end()) {
      // Whether the first daemon's bytes were through when it died is not certain; that none is doubled is.
      write("one\ntwo\n", 108);
      write("three\n", 114);
      UntilCancelled(context);
    } else {
      EXPECT_EQ(after->second.inode(), 7U);
      EXPECT_EQ(after->second.offset(), 108U);
      write("three\n", 114);
      UntilCancelled(context);
    }
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  CtlProcess process({"logs", "web", "-f", "--socket", socket_});
  EXPECT_EQ(process.ReadLine(), "one");
  EXPECT_EQ(process.ReadLine(), "two");
  EXPECT_EQ(process.ReadLine(), "three");
}

TEST_F(StreamsTest, FollowedLogsAsJsonAreOneObjectALine) {
  AnswerStatusWith({"web"});
  AnswerLogsWith({Chunk("web", "a\nb\n")});
  const FakeSupervisor fake(socket_, &answers_);
  CtlProcess process({"--json", "logs", "web", "-f", "--socket", socket_});
  EXPECT_EQ(Json::parse(process.ReadLine())["line"], "a");
  EXPECT_EQ(Json::parse(process.ReadLine())["line"], "b");
}

TEST_F(StreamsTest, AnUnknownServiceHasNoLog) {
  answers_.status = [](const v1::StatusRequest&, v1::StatusResponse*) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such service: wbe");
  };
  // A removed service may have left a log, so the call itself decides.
  answers_.logs = [](const v1::LogsRequest&, grpc::ServerContext*, grpc::ServerWriter<v1::LogChunk>*) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such service: wbe");
  };
  EXPECT_EQ(Run({"logs", "wbe", "-f"}).exit_code, 4);
}

TEST_F(StreamsTest, ABadPatternIsAUsageError) {
  AnswerStatusWith({"web"});
  answers_.logs = [](const v1::LogsRequest&, grpc::ServerContext*, grpc::ServerWriter<v1::LogChunk>*) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "grep: missing )");
  };
  const CtlResult result = Run({"logs", "web", "--grep", "(", "--json"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(Json::parse(result.out)["error"]["code"], "invalid_argument");
}

TEST_F(StreamsTest, EventsAreATableOrOneObject) {
  v1::EventsRequest seen;
  answers_.events = [&seen](const v1::EventsRequest& request, grpc::ServerContext*,
                            grpc::ServerWriter<v1::Event>* writer) {
    seen = request;
    writer->Write(Event(1, "started"));
    writer->Write(Event(2, "ready"));
    return grpc::Status::OK;
  };
  CtlResult result = Run({"events", "web", "-n", "5"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, testing::StartsWith("TIME (UTC)"));
  EXPECT_THAT(result.out, HasSubstr("started"));
  EXPECT_EQ(seen.limit(), 5U);
  EXPECT_FALSE(seen.follow());
  result = Run({"events", "--json"});
  const Json events = Json::parse(result.out)["events"];
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1]["event_type"], "ready");
  EXPECT_EQ(events[1]["details"], Json::object());
}

TEST_F(StreamsTest, FollowedEventsGoOnAfterTheLastOneSeen) {
  FakeSupervisor* current = nullptr;
  std::atomic<int> calls = 0;
  std::mutex mutex;
  std::condition_variable changed;
  bool first_was_read = false;
  answers_.events = [&](const v1::EventsRequest& request, grpc::ServerContext* context,
                        grpc::ServerWriter<v1::Event>* writer) {
    if (!request.follow()) {
      return grpc::Status::OK;  // what is the newest there is
    }
    if (++calls == 1) {
      EXPECT_TRUE(request.no_history());
      writer->Write(Event(41, "exited"));
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return first_was_read; });
      current->DropConnections();
    } else {
      EXPECT_EQ(request.after_id(), 41);
      EXPECT_FALSE(request.no_history());
      writer->Write(Event(42, "restarting"));
      UntilCancelled(context);
    }
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  CtlProcess process({"events", "-f", "--json", "--socket", socket_});
  EXPECT_EQ(Json::parse(process.ReadLine())["id"], 41);
  {
    const std::lock_guard lock(mutex);
    first_was_read = true;
  }
  changed.notify_all();
  EXPECT_EQ(Json::parse(process.ReadLine())["id"], 42);
}

TEST_F(StreamsTest, FollowedEventsGoOnThoughNoneHasComeYet) {
  FakeSupervisor* current = nullptr;
  std::atomic<int> calls = 0;
  answers_.events = [&](const v1::EventsRequest& request, grpc::ServerContext* context,
                        grpc::ServerWriter<v1::Event>* writer) {
    if (!request.follow()) {
      EXPECT_EQ(request.limit(), 1U);
      writer->Write(Event(40, "ready"));
    } else if (++calls == 1) {
      current->DropConnections();
    } else {
      EXPECT_EQ(request.after_id(), 40);
      EXPECT_FALSE(request.no_history());
      writer->Write(Event(41, "exited"));
      UntilCancelled(context);
    }
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  CtlProcess process({"events", "-f", "--json", "--socket", socket_});
  EXPECT_EQ(Json::parse(process.ReadLine())["id"], 41) << "the newest at the start is only where it begins";
}

TEST_F(StreamsTest, AFollowerEndsWhenTheDaemonIsGoneForGood) {
  FakeSupervisor* current = nullptr;
  answers_.events = [&](const v1::EventsRequest& request, grpc::ServerContext*, grpc::ServerWriter<v1::Event>*) {
    if (!request.follow()) {
      return grpc::Status::OK;
    }
    current->StopListening();
    current->DropConnections();
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  const CtlResult result = RunCtl({"events", "-f", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(RunCtl({"events", "-f", "--socket", socket_}).out, "");
  EXPECT_THAT(result.err, HasSubstr("cannot reach the daemon"));
}

}  // namespace
}  // namespace supervisor
