#include "common/diag_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "common/clock.h"
#include "common/standard_stream.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class DiagLogTest : public ::testing::Test {
 protected:
  DiagLogTest() {
    std::string name = ::testing::TempDir() + "supervisor_diag_XXXXXX";
    dir_ = mkdtemp(name.data()) == nullptr ? "" : name;
    file_ = dir_ + "/supervisord.log";
  }
  ~DiagLogTest() override {
    static_cast<void>(ConfigureDiagLog("", LogLevel::kInfo, false));
    ShutdownDiagLog();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  DiagLogTest(const DiagLogTest&) = delete;
  DiagLogTest& operator=(const DiagLogTest&) = delete;

  static std::string Read(const std::string& path) {
    std::ifstream in(path);
    std::string content;
    for (std::string line; std::getline(in, line);) {
      content += line + "\n";
    }
    return content;
  }
  static bool Exists(const std::string& path) {
    struct stat status {};
    return lstat(path.c_str(), &status) == 0;
  }

  std::string dir_;
  std::string file_;
  const uint64_t dropped_before_ = DiagLogDropped();
};

TEST(StandardStream, IsKnownByTheNamesThatContainersUse) {
  for (const char* name :
       {"/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/self/fd/1", "/proc/self/fd/2"}) {
    EXPECT_TRUE(StandardStream(name).has_value()) << name;
  }
  for (const char* name : {"", "/dev/null", "/dev/stdin", "/dev/fd/0", "/dev/fd/3", "/proc/self/fd/12", "/dev/stdout.1",
                           "dev/stdout", "/dev/pts/1"}) {
    EXPECT_FALSE(StandardStream(name).has_value()) << name;
  }
}

TEST_F(DiagLogTest, ALinkToAStandardStreamIsThatAndAnyOtherIsRefused) {
  std::filesystem::create_symlink("/dev/stdout", dir_ + "/to_stdout");
  std::filesystem::create_symlink(dir_ + "/to_stdout", dir_ + "/to_link");
  EXPECT_EQ(StandardStream(dir_ + "/to_stdout"), STDOUT_FILENO);
  EXPECT_EQ(StandardStream(dir_ + "/to_link"), std::nullopt);
  EXPECT_FALSE(ConfigureDiagLog(dir_ + "/to_link", LogLevel::kInfo, false).ok());
}

TEST_F(DiagLogTest, LinesAreKeysAndValuesAndControlCharactersCannotForgeOne) {
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, false).ok());
  LogDebug("below the level");
  LogWarning("a thing", {{"service", "web"}, {"error", "x\nlevel=error msg=\"forged\""}, {"none", ""}});
  ShutdownDiagLog();
  EXPECT_THAT(Read(file_), MatchesRegex("[0-9-]+ [0-9:.]+ level=warning msg=\"a thing\" service=web "
                                        "error=\"x\\\\x0alevel=error msg=\\\\\"forged\\\\\"\" none=\"\"\n"));
}

// Standard error may be a terminal, and a value what a service said.
TEST_F(DiagLogTest, NothingThatATerminalObeysIsWrittenAsItIs) {
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, false).ok());
  LogInfo("said", {{"esc", "\x1b[2J"},
                   {"del", "a\x7f"},
                   {"csi",
                    "\xC2\x9B"
                    "2J"},
                   {"kept", "K\xC3\xA4se"}});
  ShutdownDiagLog();
  EXPECT_THAT(Read(file_), HasSubstr(R"(esc="\x1b[2J" del="a\x7f" csi="\x9b2J" kept=)"
                                     "K\xC3\xA4se\n"));
}

TEST_F(DiagLogTest, AFullFileIsRotatedAndAsManyKeptAsAsked) {
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, false, {.max_bytes = 1000, .max_files = 2}).ok());
  for (int i = 0; i < 100; ++i) {
    LogInfo("a line of the daemon's own log", {{"number", std::to_string(i)}});
  }
  ShutdownDiagLog();
  const std::string all = Read(file_ + ".2") + Read(file_ + ".1") + Read(file_);
  EXPECT_THAT(all, HasSubstr("number=99\n"));
  EXPECT_LE(Read(file_).size(), 1000U);
  EXPECT_LE(Read(file_ + ".1").size(), 1000U);
  EXPECT_GT(Read(file_ + ".1").size(), 500U);
  EXPECT_FALSE(Exists(file_ + ".3"));
  // Whole lines, in order, none missing from the first that is kept on.
  const size_t first = all.find("number=") + 7;
  int wanted = std::stoi(all.substr(first));
  for (size_t at = all.find("number="); at != std::string::npos; at = all.find("number=", at + 1)) {
    EXPECT_EQ(std::stoi(all.substr(at + 7)), wanted++);
  }
  EXPECT_EQ(wanted, 100);
  EXPECT_EQ(DiagLogDropped(), dropped_before_);
}

TEST_F(DiagLogTest, ADeletedFileComesBack) {
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, false).ok());
  LogInfo("before");
  for (const MonoTime end = MonotonicNow() + absl::Seconds(10); Read(file_).empty() && MonotonicNow() < end;) {
    usleep(1000);  // style-ok(sleep): waits for the log's own thread
  }
  ASSERT_EQ(unlink(file_.c_str()), 0);
  for (const MonoTime end = MonotonicNow() + absl::Seconds(10); !Exists(file_) && MonotonicNow() < end;) {
    LogInfo("after");
    usleep(1000);  // style-ok(sleep): as above
  }
  EXPECT_TRUE(Exists(file_));
}

TEST_F(DiagLogTest, ADeviceIsNotRotatedAndALinkNotFollowed) {
  ASSERT_EQ(symlink("/dev/null", file_.c_str()), 0);
  EXPECT_FALSE(ConfigureDiagLog(file_, LogLevel::kInfo, false).ok());
  ASSERT_TRUE(ConfigureDiagLog("/dev/null", LogLevel::kInfo, false, {.max_bytes = 10, .max_files = 1}).ok());
  LogInfo("more than ten bytes");
  LogInfo("more than ten bytes");
  ShutdownDiagLog();
  EXPECT_FALSE(Exists("/dev/null.1"));
}

// A reader that sleeps.
class StderrIsAFullPipe {
 public:
  StderrIsAFullPipe() : saved_(dup(STDERR_FILENO)) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    reader_.Reset(ends[0]);
    const UniqueFd writer(ends[1]);
    fcntl(writer.get(), F_SETFL, O_NONBLOCK);
    fcntl(reader_.get(), F_SETFL, O_NONBLOCK);
    const std::string page(4096, 'x');
    while (write(writer.get(), page.data(), page.size()) > 0) {
    }
    fcntl(writer.get(), F_SETFL, 0);
    dup2(writer.get(), STDERR_FILENO);
  }
  ~StderrIsAFullPipe() { dup2(saved_.get(), STDERR_FILENO); }
  StderrIsAFullPipe(const StderrIsAFullPipe&) = delete;
  StderrIsAFullPipe& operator=(const StderrIsAFullPipe&) = delete;

  std::string ReadAll() const {
    std::string text;
    char buffer[4096];
    for (ssize_t got = 0; (got = read(reader_.get(), buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }

 private:
  UniqueFd saved_;
  UniqueFd reader_;
};

TEST_F(DiagLogTest, NobodyWaitsForAStderrThatTakesNothingAndItIsHeardAgain) {
  const StderrIsAFullPipe pipe;
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, true).ok());
  const MonoTime begin = MonotonicNow();
  for (int i = 0; i < 100; ++i) {
    LogInfo("a line that nobody reads", {{"number", std::to_string(i)}});
  }
  ShutdownDiagLog();
  EXPECT_LT(MonotonicNow() - begin, absl::Seconds(5));
  EXPECT_EQ(DiagLogDropped() - dropped_before_, 100U);
  EXPECT_THAT(Read(file_), HasSubstr("number=99\n")) << "the file has them all";
  EXPECT_THAT(pipe.ReadAll(), ::testing::Not(HasSubstr("number")));
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, true).ok());
  LogInfo("read again", {{"text", std::string(10'000, 'y')}});
  ShutdownDiagLog();
  EXPECT_THAT(pipe.ReadAll(), MatchesRegex("[^\n]*msg=\"read again\" text=y{10000}\n"));
  EXPECT_EQ(DiagLogDropped() - dropped_before_, 100U);
}

TEST_F(DiagLogTest, AFifoIsWrittenToAndNotWaitedFor) {
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  const absl::Status status = ConfigureDiagLog(file_, LogLevel::kInfo, false);
  EXPECT_THAT(std::string(status.message()), HasSubstr(file_ + ": nobody reads it: "));
  const UniqueFd reader(open(file_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(reader);
  ASSERT_TRUE(ConfigureDiagLog(file_, LogLevel::kInfo, false).ok());
  LogInfo("through a FIFO");
  for (int i = 0; i < 1000; ++i) {
    LogInfo("more than it takes", {{"text", std::string(500, 'z')}});
  }
  ShutdownDiagLog();
  char text[4096] = {};
  EXPECT_GT(read(reader.get(), text, sizeof(text) - 1), 0);
  EXPECT_THAT(text, HasSubstr("msg=\"through a FIFO\""));
  EXPECT_GT(DiagLogDropped(), dropped_before_);
}

}  // namespace
}  // namespace supervisor
