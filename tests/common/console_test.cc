#include "common/console.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

#include "common/unique_fd.h"

namespace supervisor {
namespace {

using testing::ExitedWithCode;

void Redirect(int fd, const char* path) {
  const UniqueFd file(open(path, O_WRONLY | O_CLOEXEC));
  ASSERT_GE(dup2(file.get(), fd), 0);
}

// A child that prints and ends as main does.
[[noreturn]] void Program(int code) {
  PrintOut("result\n");
  PrintError("message\n");
  _exit(ExitCodeOf(code));
}

TEST(Console, WhatIsPrintedChangesNoExitCode) {
  EXPECT_EXIT(Program(0), ExitedWithCode(0), "^message\n$");
  EXPECT_EXIT(Program(3), ExitedWithCode(3), "^message\n$");
}

TEST(Console, AFullStdoutTurnsSuccessIntoFailureAndSaysSo) {
  const auto program = [](int code) {
    Redirect(STDOUT_FILENO, "/dev/full");
    Program(code);
  };
  EXPECT_EXIT(program(0), ExitedWithCode(1), "cannot write to stdout: No space left on device \\(ENOSPC\\)");
  EXPECT_EXIT(program(2), ExitedWithCode(2), "cannot write to stdout") << "the reason that was there first stays";
}

TEST(Console, AFullOrClosedStderrIsAFailureAndNoAbort) {
  const auto full = [](int code) {
    Redirect(STDERR_FILENO, "/dev/full");
    Program(code);
  };
  const auto closed = [](int code) {
    close(STDERR_FILENO);
    Program(code);
  };
  EXPECT_EXIT(full(0), ExitedWithCode(1), "");
  EXPECT_EXIT(full(2), ExitedWithCode(2), "");
  EXPECT_EXIT(closed(0), ExitedWithCode(1), "");
  EXPECT_EXIT(closed(3), ExitedWithCode(3), "");
}

TEST(Console, AReaderThatHasGoneAwayIsNoFailure) {
  const auto program = [] {
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    ASSERT_GE(dup2(ends[1], STDOUT_FILENO), 0);
    Program(0);
  };
  EXPECT_EXIT(program(), ExitedWithCode(0), "message");
}

TEST(WriteFully, WaitsForWhoReadsSlowlyFromANonBlockingPipe) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const std::string text(size_t{1} << 20, 'x');
  std::string got;
  std::thread reads([&] {
    ASSERT_EQ(fcntl(reader.get(), F_SETFL, 0), 0);
    char chunk[4096];
    for (ssize_t size = 0; (size = read(reader.get(), chunk, sizeof(chunk))) > 0;) {
      got.append(chunk, static_cast<size_t>(size));
    }
  });
  EXPECT_EQ(WriteFully(writer.get(), text), 0);
  writer.Reset();
  reads.join();
  EXPECT_EQ(got.size(), text.size());
}

TEST(WriteFully, TellsTheErrno) {
  EXPECT_EQ(WriteFully(-1, "x"), EBADF);
  EXPECT_EQ(WriteFully(-1, ""), 0);
}

}  // namespace
}  // namespace supervisor
