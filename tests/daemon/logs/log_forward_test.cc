#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/logs/forward_lines.h"
#include "daemon/logs/forward_mark.h"
#include "daemon/logs/forward_sink.h"
#include "daemon/logs/log_remains.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/logs/log_test_util.h"

namespace supervisor {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Result = ForwardSink::Result;

class Lines {
 public:
  explicit Lines(size_t longest) : lines_(longest) {}
  size_t Feed(std::string_view data, size_t takes = 1000) {
    return lines_.Feed(data, [&](std::string_view line) {
      if (takes == 0) {
        return false;
      }
      --takes;
      got.emplace_back(line);
      return true;
    });
  }
  const std::string& partial() const { return lines_.partial(); }
  std::vector<std::string> got;

 private:
  ForwardLines lines_;
};

TEST(ForwardLines, PutsPiecesTogether) {
  Lines lines(100);
  EXPECT_EQ(lines.Feed("one\ntw"), 6u);
  EXPECT_EQ(lines.Feed("o\n\n"), 3u);
  EXPECT_EQ(lines.Feed("three"), 5u);
  EXPECT_THAT(lines.got, ElementsAre("one", "two", ""));
  EXPECT_EQ(lines.partial(), "three");
}

TEST(ForwardLines, StopsAtALineThatIsNotTakenAndGoesOnThere) {
  Lines lines(100);
  EXPECT_EQ(lines.Feed("one\ntwo\nth", 1), 4u);
  EXPECT_EQ(lines.Feed("two\nth", 1), 6u);
  EXPECT_EQ(lines.Feed("ree\nfour\n", 0), 0u);
  EXPECT_EQ(lines.partial(), "th") << "what had been kept is still there";
  EXPECT_EQ(lines.Feed("ree\nfour\n"), 9u);
  EXPECT_THAT(lines.got, ElementsAre("one", "two", "three", "four"));
}

TEST(ForwardLines, CutsALineThatIsTooLong) {
  Lines lines(4);
  EXPECT_EQ(lines.Feed("abcdefghij\nabcd\n"), 16u);
  EXPECT_THAT(lines.got, ElementsAre("abcd", "efgh", "ij", "abcd"));
  EXPECT_EQ(lines.Feed("abc"), 3u);
  EXPECT_EQ(lines.Feed("defg\n"), 5u);
  EXPECT_THAT(lines.got, ElementsAre("abcd", "efgh", "ij", "abcd", "abcd", "efg"));
}

TEST(ForwardMark, IsReadAsItWasWritten) {
  const ForwardMark::Place place{
      .position = {.file = {.device = 1, .inode = UINT64_MAX, .born_ns = INT64_MIN}, .offset = UINT64_MAX},
      .within_line = true};
  const auto read = ParseForwardPlace(FormatForwardPlace(place));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->position.file, place.position.file);
  EXPECT_EQ(read->position.offset, place.position.offset);
  EXPECT_TRUE(read->within_line);
}

TEST(ForwardMark, NonsenseIsNoMark) {
  const std::string good = FormatForwardPlace({});
  EXPECT_TRUE(ParseForwardPlace(good));
  EXPECT_FALSE(ParseForwardPlace(""));
  EXPECT_FALSE(ParseForwardPlace(good.substr(1)));
  EXPECT_FALSE(ParseForwardPlace(std::string(good.size() - 1, ' ') + "\n"));
  EXPECT_FALSE(ParseForwardPlace(std::string(good.size(), '7')));
}

class StdoutSinkTest : public testing::Test {
 protected:
  StdoutSinkTest() {
    std::signal(SIGPIPE, SIG_IGN);  // as every program of ours: a reader that has gone is an errno
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_.Reset(ends[0]);
    write_.Reset(ends[1]);
    fcntl(read_.get(), F_SETFL, O_NONBLOCK);
    auto sink = MakeStdoutSink(write_.get());
    EXPECT_TRUE(sink.ok());
    sink_ = *std::move(sink);
  }
  std::string Read() const {
    std::string all;
    std::string block(65536, '\0');
    for (ssize_t n = 0; (n = read(read_.get(), block.data(), block.size())) > 0;) {
      all.append(block, 0, static_cast<size_t>(n));
    }
    return all;
  }
  UniqueFd read_;
  UniqueFd write_;
  std::unique_ptr<ForwardSink> sink_;
};

TEST_F(StdoutSinkTest, WritesTheNameBeforeTheLine) {
  EXPECT_EQ(sink_->Send("web", "hello", 0), Result::kSent);
  EXPECT_EQ(sink_->Send("w:1", "", 0), Result::kSent);
  EXPECT_EQ(Read(), "web | hello\nw:1 | \n");
}

TEST_F(StdoutSinkTest, AFullPipeIsNotWaitedForAndLinesStayWhole) {
  const std::string line(3000, 'x');
  int sent = 0;
  while (sink_->Send("web", line, 0) == Result::kSent) {
    ++sent;
  }
  EXPECT_GT(sent, 10);
  EXPECT_EQ(sink_->Send("web", line, 0), Result::kFull);
  EXPECT_EQ(fcntl(write_.get(), F_GETFL) & O_NONBLOCK, 0) << "others write to it too";
  std::string all = Read();
  EXPECT_EQ(sink_->Send("web", line, 0), Result::kSent);
  all += Read();
  const std::string whole = "web | " + line + "\n";
  EXPECT_EQ(all.size(), static_cast<size_t>(sent + 1) * whole.size());
  EXPECT_EQ(all.substr(all.size() - whole.size()), whole);
}

TEST_F(StdoutSinkTest, AnAbandonedLineIsEndedBeforeTheNext) {
  const std::string line(200'000, 'x');  // more than the pipe takes
  EXPECT_EQ(sink_->Send("web", line, 0), Result::kFull);
  EXPECT_TRUE(sink_->IsWithinLine());
  sink_->Abandon();
  EXPECT_FALSE(sink_->IsWithinLine());
  Read();
  EXPECT_EQ(sink_->Send("db", "next", 0), Result::kSent);
  EXPECT_EQ(Read(), "\ndb | next\n");
}

TEST_F(StdoutSinkTest, AReaderThatHasGoneIsTrouble) {
  read_.Reset();
  EXPECT_EQ(sink_->Send("web", "x", 0), Result::kTrouble);
  EXPECT_NE(sink_->trouble(), "");
}

TEST(StdoutSink, DevNullIsRefusedAndAFileIsAppendedTo) {
  const UniqueFd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
  EXPECT_FALSE(MakeStdoutSink(null.get()).ok());
  EXPECT_FALSE(MakeStdoutSink(-1).ok());
  const TempDir dir;
  WriteFile(dir / "out", "");
  const UniqueFd file(open((dir / "out").c_str(), O_WRONLY | O_CLOEXEC));
  WriteAll(file.get(), "before\n");
  const auto sink = MakeStdoutSink(file.get());
  ASSERT_TRUE(sink.ok());
  EXPECT_EQ((*sink)->Send("web", "line", 0), Result::kSent);
  WriteAll(file.get(), "after\n");
  EXPECT_EQ(ReadFile(dir / "out"), "before\nweb | line\nafter\n");
}

class SyslogSinkTest : public testing::Test {
 protected:
  void Listen(int type) {
    socket_.Reset(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    if (type == SOCK_STREAM) {
      ASSERT_EQ(listen(socket_.get(), 1), 0);
    }
  }
  static std::string Receive(int fd) {
    std::string text(65536, '\0');
    const ssize_t got = recv(fd, text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }
  TempDir dir_;
  std::string path_ = dir_ / "log";
  UniqueFd socket_;
  std::unique_ptr<ForwardSink> sink_ = MakeSyslogSink(path_);
};

TEST_F(SyslogSinkTest, SendsDatagramsAsSyslog3Does) {
  EXPECT_EQ(sink_->Send("web", "nobody there", 0), Result::kTrouble);
  EXPECT_NE(sink_->trouble().find(path_), std::string::npos);
  Listen(SOCK_DGRAM);
  const int64_t time_ms = 1'700'000'000'000;
  EXPECT_EQ(sink_->Send("web", "hello: 100 % | ok", time_ms), Result::kSent);
  EXPECT_EQ(sink_->trouble(), "");
  EXPECT_THAT(Receive(socket_.get()), testing::MatchesRegex("<30>Nov 1[45] [0-9:]+ web: hello: 100 % \\| ok"));
  EXPECT_EQ(sink_->Send("worker:3", "x", time_ms), Result::kSent);
  EXPECT_THAT(Receive(socket_.get()), testing::EndsWith(" worker/3: x"));
}

TEST_F(SyslogSinkTest, ConnectsAnewToOneThatWasRestarted) {
  Listen(SOCK_DGRAM);
  EXPECT_EQ(sink_->Send("web", "one", 0), Result::kSent);
  socket_.Reset();
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(sink_->Send("web", "two", 0), Result::kTrouble);
  Listen(SOCK_DGRAM);
  EXPECT_EQ(sink_->Send("web", "two", 0), Result::kSent);
  EXPECT_THAT(Receive(socket_.get()), testing::EndsWith(" web: two"));
}

TEST_F(SyslogSinkTest, AFullQueueIsNotWaitedFor) {
  Listen(SOCK_DGRAM);
  Result last = Result::kSent;
  for (int i = 0; i < 100'000 && last == Result::kSent; ++i) {
    last = sink_->Send("web", "x", 0);
  }
  EXPECT_EQ(last, Result::kFull);
  Receive(socket_.get());
  EXPECT_EQ(sink_->Send("web", "x", 0), Result::kSent);
}

TEST_F(SyslogSinkTest, SpeaksToAStreamToo) {
  Listen(SOCK_STREAM);
  EXPECT_EQ(sink_->Send("web", std::string("a\0b", 3), 0), Result::kSent);
  const UniqueFd peer(accept(socket_.get(), nullptr, nullptr));
  const std::string got = Receive(peer.get());
  EXPECT_THAT(got, testing::EndsWith(std::string(" web: a b") + '\0'));
}

TEST(LogRemains, KnowsWhoseAFileIs) {
  EXPECT_EQ(InstanceOfLogFile("web.log", "web", false), "web");
  EXPECT_EQ(InstanceOfLogFile("web.log.12", "web", false), "web");
  EXPECT_EQ(InstanceOfLogFile("web.log.3.gz", "web", false), "web");
  EXPECT_EQ(InstanceOfLogFile("web:7.log", "web", false), "web:7");
  EXPECT_EQ(InstanceOfLogFile("web:7.log", "web:7", false), "web:7");
  EXPECT_EQ(InstanceOfLogFile("web:7.err.log", "web", true), "web:7");
  for (const char* other : {"web.log.x", "web.log.1.gz.tmp", "web.log.gz.tmp", "web.log-20261130", "web:.log",
                            "web:x.log", "website.log", "web.err.log", ".web.log.index", "web", "web.log.", ""}) {
    EXPECT_EQ(InstanceOfLogFile(other, "web", false), "") << other;
  }
  EXPECT_EQ(InstanceOfLogFile("web:7.log", "web:1", false), "");
  EXPECT_EQ(InstanceOfLogFile("web.log", "web", true), "");
}

TEST(LogRemains, AreFoundOnceEachByNumber) {
  const TempDir dir;
  for (const char* name : {"w:10.log", "w:2.log.1", "w:2.log", "w:2.log.2.gz", "other.log", "w.err.log"}) {
    WriteFile(dir / name, "");
  }
  EXPECT_THAT(FindLogRemains(dir.path(), "w", false), ElementsAre("w:2", "w:10"));
  EXPECT_THAT(FindLogRemains(dir.path(), "w", true), ElementsAre("w"));
  EXPECT_THAT(FindLogRemains(dir.path() + "/missing", "w", false), IsEmpty());
}

}  // namespace
}  // namespace supervisor
