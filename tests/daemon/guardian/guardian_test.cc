#include "daemon/guardian/guardian.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>
#include <vector>

namespace supervisor {
namespace {

// A guardian in a process of its own, whose daemon is a shell script. In the script descriptor 7 says that the daemon
// serves, 8 is the test's own pipe, and $run tells the starts apart.
class GuardianTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    ASSERT_EQ(pipe2(told_, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(reaped_, O_CLOEXEC | O_NONBLOCK), 0);
    ready_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ASSERT_GE(ready_fd_, 0);
  }

  void TearDown() override {
    if (guardian_ > 0) {
      kill(guardian_, SIGKILL);  // style-ok(signal-by-pid): a child of ours, not reaped yet
      waitpid(guardian_, nullptr, 0);
    }
    unlink((directory_ + "/runs").c_str());
    unlink((directory_ + "/fifo").c_str());
    unlink((directory_ + "/child").c_str());
    rmdir(directory_.c_str());
    for (const int fd : {told_[0], told_[1], reaped_[0], reaped_[1], ready_fd_}) {
      close(fd);
    }
  }

  void Begin(const std::string& script, bool has_served = false, const std::string& program = FAKE_DAEMON) {
    std::string text = "serve() { printf '\\1\\0\\0\\0\\0\\0\\0\\0' >&7; }\n" + script;
    std::string runs = directory_ + "/runs";
    guardian_ = fork();  // style-ok(fork): the test has one thread
    ASSERT_GE(guardian_, 0);
    // In a group of its own, as a shell does, before it has a child: an end of it that leaves a suspended daemon behind
    // would send SIGHUP to the whole group of these tests (setpgid(2)).
    setpgid(guardian_, guardian_);
    if (guardian_ > 0) {
      close(std::exchange(told_[1], -1));  // so that an early end shows as the end of the lines
      return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    constexpr int kHigh = 20;  // out of the way of the two numbers
    const int ready_fd = fcntl(ready_fd_, F_DUPFD_CLOEXEC, kHigh);
    const int reaped_fd = fcntl(reaped_[1], F_DUPFD_CLOEXEC, kHigh);
    const int told_fd = fcntl(told_[1], F_DUPFD_CLOEXEC, kHigh);
    dup2(ready_fd, 7);
    dup2(told_fd, 8);
    std::string name = "fake_daemon";
    std::string note(1024, '\0');
    char* const argv[] = {name.data(), text.data(), runs.data(), note.data(), nullptr};
    const int program_fd = open(FAKE_DAEMON, O_PATH | O_CLOEXEC);
    if (stderr_fd_ >= 0) {
      dup2(stderr_fd_, STDERR_FILENO);
    }
    const int code = RunGuardian({.program = program.c_str(),
                                  .program_fd = program_fd,
                                  .daemon_argv = argv,
                                  .note = note.data(),
                                  .note_size = note.size(),
                                  .reaped_write_fd = reaped_fd,
                                  .ready_fd = ready_fd,
                                  .has_served = has_served,
                                  .is_awaited = is_awaited_});
    _exit(code == kReplaceGuardian ? 99 : code);
  }

  std::string Fifo() {
    const std::string path = directory_ + "/fifo";
    if (access(path.c_str(), F_OK) != 0) {
      EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
    }
    return path;
  }

  int ExitCode() {
    int status = -1;
    EXPECT_EQ(waitpid(guardian_, &status, 0), guardian_);
    guardian_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  // The next line that the script wrote to descriptor 8.
  std::string Line() {
    std::string line;
    for (char byte = 0; read(told_[0], &byte, 1) == 1 && byte != '\n';) {
      line += byte;
    }
    return line;
  }

  ReapedRecord Reaped() {
    pollfd there{.fd = reaped_[0], .events = POLLIN, .revents = 0};
    ReapedRecord record{};
    EXPECT_EQ(poll(&there, 1, 60'000), 1);
    EXPECT_EQ(read(reaped_[0], &record, sizeof(record)), static_cast<ssize_t>(sizeof(record)));
    return record;
  }

  void Signal(int signal) {
    ASSERT_EQ(kill(guardian_, signal), 0);  // style-ok(signal-by-pid): a child of ours, not reaped yet
  }

  std::string directory_ = "/tmp/guardian-test-XXXXXX";
  int told_[2] = {-1, -1};
  int reaped_[2] = {-1, -1};
  int ready_fd_ = -1;
  int stderr_fd_ = -1;  // for the guardian; -1: the test's
  bool is_awaited_ = false;
  pid_t guardian_ = -1;
};

TEST_F(GuardianTest, PassesOnTheExitCodeOfADaemonThatNeverServed) {
  Begin("exit 2");
  EXPECT_EQ(ExitCode(), 2);
}

TEST_F(GuardianTest, EndsWithADaemonThatEndedAsItShould) {
  Begin("serve; exit 0");
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, SaysFailureWhereTheDaemonStoppedEverythingBecauseOfOne) {
  Begin("serve; exit 70");
  EXPECT_EQ(ExitCode(), 1);
}

TEST_F(GuardianTest, EndsWithTheExitCodeThatTheDaemonHasTold) {
  Begin("serve; printf '\\0\\0\\0\\0\\52\\0\\0\\0' >&7; exit 70");
  EXPECT_EQ(ExitCode(), 42);
}

TEST_F(GuardianTest, WhatADaemonBeforeHasToldIsNotTheNextOnes) {
  Begin("serve; if [ $run = 1 ]; then printf '\\0\\0\\0\\0\\52\\0\\0\\0' >&7; kill -9 $$; fi; exit 70");
  EXPECT_EQ(ExitCode(), 1);
}

TEST_F(GuardianTest, LetsItselfBeReplacedWhenTheDaemonMadeRoom) {
  Begin("serve; exit 71");
  EXPECT_EQ(ExitCode(), 99);
}

TEST_F(GuardianTest, StartsAKilledDaemonAgainServedOrNot) {
  Begin(
      "echo $run >&8; if [ $run = 1 ]; then kill -9 $$; fi\n"
      "serve; if [ $run = 2 ]; then kill -9 $$; fi; exit 0");
  EXPECT_EQ(Line(), "1");
  EXPECT_EQ(Line(), "2");
  EXPECT_EQ(Line(), "3");
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, ADaemonThatFailsAfterAnotherServedIsTriedAgain) {
  Begin("if [ $run = 1 ]; then serve; fi; if [ $run -lt 4 ]; then exit 3; fi; echo $run >&8; exit 0");
  EXPECT_EQ(Line(), "4");
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, ADaemonOfAReplacedGuardianHasServed) {
  Begin("if [ $run = 1 ]; then exit 3; fi; exit 0", /*has_served=*/true);
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, ForwardsWhatIsForTheDaemon) {
  Begin(
      "for s in HUP USR1 USR2; do trap \"echo $s >&8\" $s; done; trap 'echo TERM >&8; exit 0' TERM\n"
      "serve; echo set >&8; while :; do sleep 0.01; done");
  EXPECT_EQ(Line(), "set");
  for (const auto& [signal, name] : {std::pair(SIGHUP, "HUP"), {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}}) {
    Signal(signal);
    EXPECT_EQ(Line(), name);
  }
  Signal(SIGINT);
  EXPECT_EQ(Line(), "TERM") << "one way to be told to stop is enough for a daemon";
  EXPECT_EQ(ExitCode(), 0);
}

// What runs has to be stopped in order: only a daemon can. So it does not wait for the back-off either.
TEST_F(GuardianTest, AStopWhileNoDaemonRunsIsTheNextDaemonsToCarryOut) {
  Begin(
      "echo $run >&8; if [ $run = 1 ]; then serve; fi; if [ $run -lt 8 ]; then kill -9 $$; fi\n"
      "exec \"$FAKE\" await-stop");
  for (int run = 1; run <= 7; ++run) {
    EXPECT_EQ(Line(), std::to_string(run));
  }
  Signal(SIGTERM);
  EXPECT_EQ(Line(), "8");
  EXPECT_EQ(Line(), "TERM");
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, ReportsWhatADeadDaemonLeftBehind) {
  Begin("if [ $run = 1 ]; then serve; (: <" + Fifo() + "; exit 5) & echo $! >&8\n" + "  sh -c ': <" + Fifo() +
        "; kill -SEGV $$' & echo $! >&8; kill -9 $$; fi\n" + "exec 9>" + Fifo() + "; while :; do sleep 0.01; done");
  const pid_t exits = std::stoi(Line());
  const pid_t dies = std::stoi(Line());
  std::vector<ReapedRecord> reaped{Reaped(), Reaped()};
  if (reaped[0].pid != exits) {
    std::swap(reaped[0], reaped[1]);
  }
  EXPECT_EQ(reaped[0].pid, exits) << "whose parent had died before it ended";
  EXPECT_TRUE(WIFEXITED(reaped[0].status));
  EXPECT_EQ(WEXITSTATUS(reaped[0].status), 5);
  EXPECT_EQ(reaped[1].pid, dies);
  EXPECT_TRUE(WIFSIGNALED(reaped[1].status));
  EXPECT_EQ(WTERMSIG(reaped[1].status), SIGSEGV);
}

// As long as there is no room the process stays a zombie; and a daemon that dies meanwhile is started again all the
// same, since only a daemon makes room.
TEST_F(GuardianTest, AFullPipeKeepsExitCodesWaiting) {
  const ReapedRecord filler{.pid = -7, .status = 0};
  size_t fillers = 0;
  while (write(reaped_[1], &filler, sizeof(filler)) == sizeof(filler)) {
    ++fillers;
  }
  Begin("if [ $run = 1 ]; then sh -c ': <" + Fifo() + "; exit 6' & echo $! >" + directory_ +
        "/child; kill -9 $$; fi\n" + "read -r child <" + directory_ + "/child; exec 9<>" + Fifo() + "\n" +
        "if [ $run = 2 ]; then while ! grep -q ' Z ' /proc/$child/stat; do sleep 0.01; done; kill -9 $$; fi\n" +
        "echo $child >&8; while :; do sleep 0.01; done");
  const pid_t child = std::stoi(Line());
  for (size_t i = 0; i < fillers; ++i) {
    EXPECT_EQ(Reaped().pid, filler.pid);
  }
  const ReapedRecord record = Reaped();
  EXPECT_EQ(record.pid, child);
  EXPECT_EQ(WEXITSTATUS(record.status), 6);
}

TEST_F(GuardianTest, AStopEndsItWhereNoDaemonHasEverServed) {
  Begin("echo $run >&8; kill -9 $$");
  EXPECT_EQ(Line(), "1");
  EXPECT_EQ(Line(), "2");
  Signal(SIGTERM);
  EXPECT_EQ(ExitCode(), 1);
}

TEST_F(GuardianTest, AStopThatComesDuringAStartEndsItToo) {
  Begin("echo $run >&8; read -r line <" + Fifo() + "; kill -9 $$");
  EXPECT_EQ(Line(), "1");
  Signal(SIGTERM);
  const int writer = open(Fifo().c_str(), O_WRONLY | O_CLOEXEC);  // waits for the reader
  EXPECT_EQ(write(writer, "go\n", 3), 3);
  close(writer);
  EXPECT_EQ(ExitCode(), 1);
}

TEST_F(GuardianTest, AStopEndsServicesThatNoDaemonStops) {
  Begin("echo $run >&8; if [ $run = 1 ]; then serve; sh -c 'trap \"echo asked >&8; exit 0\" TERM; echo up >&8\n" +
        std::string("while :; do sleep 0.01; done' & read -r line <") + Fifo() + "; fi; kill -9 $$");
  EXPECT_EQ(Line(), "1");
  EXPECT_EQ(Line(), "up");
  const int writer = open(Fifo().c_str(), O_WRONLY | O_CLOEXEC);
  EXPECT_EQ(write(writer, "go\n", 3), 3);
  close(writer);
  EXPECT_EQ(Line(), "2");
  Signal(SIGTERM);
  std::string last;
  int lines = 0;
  for (std::string line = Line(); !line.empty(); line = Line()) {
    last = line;
    ++lines;
  }
  EXPECT_EQ(last, "asked");
  EXPECT_LE(lines, 6) << "three tries, and what was under way";
  EXPECT_EQ(ExitCode(), 1);
}

TEST_F(GuardianTest, ASecondStopKillsADaemonThatHangsInItsStart) {
  Begin("trap '' TERM; echo $run >&8; while :; do sleep 0.01; done");
  EXPECT_EQ(Line(), "1");
  int status = 0;
  for (int i = 0; i < 6'000 && waitpid(guardian_, &status, WNOHANG) == 0; ++i) {
    kill(guardian_, SIGTERM);  // style-ok(signal-by-pid): a child of ours, not reaped yet
    poll(nullptr, 0, 10);
  }
  guardian_ = -1;
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST_F(GuardianTest, GivesUpForACallerWhoWaitsAndNotOtherwise) {
  is_awaited_ = true;
  Begin("echo $run >&8; kill -9 $$");
  EXPECT_EQ(ExitCode(), 1);
  std::string last;
  for (std::string line = Line(); !line.empty(); line = Line()) {
    last = line;
  }
  EXPECT_EQ(last, "5");
}

TEST_F(GuardianTest, StartsItsOwnProgramWhereThePathHasNone) {
  int said[2];
  ASSERT_EQ(pipe2(said, O_CLOEXEC), 0);
  stderr_fd_ = said[1];
  Begin("serve; echo $run >&8; if [ $run = 1 ]; then kill -9 $$; fi; exit 0", false, directory_ + "/none");
  close(said[1]);
  EXPECT_EQ(Line(), "1");
  EXPECT_EQ(Line(), "2");
  EXPECT_EQ(ExitCode(), 0);
  char text[4096] = {};
  EXPECT_GT(read(said[0], text, sizeof(text) - 1), 0);
  close(said[0]);
  EXPECT_THAT(text,
              testing::HasSubstr("/none cannot be started (ENOENT): starts the program that the guardian itself"));
}

TEST_F(GuardianTest, StartsItsOwnProgramWhereTheOtherDoesNotComeToServe) {
  Begin("echo $run >&8; serve; exit 0", /*has_served=*/true, "/bin/false");
  EXPECT_EQ(Line(), "1");
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, TellsTheNextDaemonHowTheOneBeforeEnded) {
  Begin("serve; echo \"$note\" >&8; if [ $run = 1 ]; then kill -9 $$; fi; exit 0");
  EXPECT_EQ(Line(), "");
  EXPECT_THAT(Line(), testing::MatchesRegex("the daemon \\(pid [0-9]+\\) was killed by SIGKILL"));
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, TellsOfTheLastThatServedAndOfTheLast) {
  Begin(
      "if [ $run = 1 ]; then serve; kill -9 $$; elif [ $run -lt 4 ]; then exit $run; fi; serve; echo \"$note\" >&8; "
      "exit 0");
  EXPECT_THAT(Line(), testing::MatchesRegex("the daemon \\(pid [0-9]+\\) was killed by SIGKILL; "
                                            "the daemon \\(pid [0-9]+\\) exited with code 3 before it served"));
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(GuardianTest, IsSuspendedAndResumedWithItsDaemon) {
  Begin("trap 'echo resumed >&8; exit 0' CONT; serve; echo up >&8; while :; do sleep 0.01; done");
  EXPECT_EQ(Line(), "up");
  Signal(SIGTSTP);
  int status = 0;
  // A SIGCONT before it has stopped would be lost: a stop signal discards it (signal(7)).
  ASSERT_EQ(waitpid(guardian_, &status, WUNTRACED), guardian_);
  EXPECT_TRUE(WIFSTOPPED(status));
  Signal(SIGCONT);
  EXPECT_EQ(Line(), "resumed");
  EXPECT_EQ(ExitCode(), 0);
}

}  // namespace
}  // namespace supervisor
