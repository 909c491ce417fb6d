#include "common/process_start.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <new>
#include <system_error>

namespace supervisor {
namespace {

using testing::ExitedWithCode;

// Each check runs in a child of its own, which ends with 0 where the condition holds.
[[noreturn]] void EndWith(bool holds) { _exit(holds ? 0 : 9); }

TEST(PrepareProcess, OpensTheStandardDescriptorsThatWereClosed) {
  const auto with_closed = [](unsigned closed) {
    for (int fd = 0; fd <= 2; ++fd) {
      if ((closed >> static_cast<unsigned>(fd) & 1U) != 0) {
        close(fd);
      }
    }
    bool holds = PrepareProcess(ProgramKind::kDaemon);
    for (int fd = 0; fd <= 2; ++fd) {
      holds = holds && fcntl(fd, F_GETFD) >= 0;
    }
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    EndWith(holds && next > 2);
  };
  for (unsigned closed = 0; closed < 8; ++closed) {
    EXPECT_EXIT(with_closed(closed), ExitedWithCode(0), "") << "closed: bits " << closed;
  }
}

TEST(PrepareProcess, WhatALibraryHasOpenedThereIsNoStandardDescriptor) {
  const auto check = [] {
    close(STDIN_FILENO);
    const int opened = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    char byte = 0;
    EndWith(opened == STDIN_FILENO && PrepareProcess(ProgramKind::kDaemon) && read(STDIN_FILENO, &byte, 1) == 0 &&
            fcntl(STDIN_FILENO, F_GETFD) == 0);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, WhatWasClosedReadsAsEmptyAndCannotBeWritten) {
  const auto check = [] {
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    char byte = 0;
    const bool prepared = PrepareProcess(ProgramKind::kClient);
    EndWith(prepared && read(STDIN_FILENO, &byte, 1) == 0 && write(STDOUT_FILENO, "x", 1) < 0 && errno == EBADF);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, LeavesOpenDescriptorsAsTheyAre) {
  const auto check = [] {
    struct stat before {};
    struct stat after {};
    fstat(STDERR_FILENO, &before);
    const bool prepared = PrepareProcess(ProgramKind::kDaemon);
    fstat(STDERR_FILENO, &after);
    EndWith(prepared && before.st_ino == after.st_ino && before.st_dev == after.st_dev);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, SaysSoWhereNoDescriptorCanBeHad) {
  const auto check = [] {
    close(STDIN_FILENO);
    const rlimit none{.rlim_cur = 0, .rlim_max = 0};
    setrlimit(RLIMIT_NOFILE, &none);
    EndWith(!PrepareProcess(ProgramKind::kDaemon));
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, AChildsEndIsSeenWhereSigchldWasIgnored) {
  const auto check = [] {
    static_cast<void>(std::signal(SIGCHLD, SIG_IGN));
    const bool prepared = PrepareProcess(ProgramKind::kDaemon);
    const pid_t child = fork();  // style-ok(fork): one thread
    if (child == 0) {
      _exit(5);
    }
    int status = 0;
    EndWith(prepared && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, APendingSigchldSurvives) {
  const auto check = [] {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, nullptr);
    raise(SIGCHLD);
    const bool prepared = PrepareProcess(ProgramKind::kDaemon);
    sigset_t pending;
    sigpending(&pending);
    EndWith(prepared && sigismember(&pending, SIGCHLD) == 1);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, LimitsAndReadersThatAreGoneAreErrorsOfWrite) {
  const auto check = [] {
    static_cast<void>(std::signal(SIGPIPE, SIG_DFL));
    static_cast<void>(std::signal(SIGXFSZ, SIG_DFL));
    const bool prepared = PrepareProcess(ProgramKind::kClient);
    raise(SIGPIPE);
    raise(SIGXFSZ);
    EndWith(prepared);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

TEST(PrepareProcess, OnlyADaemonGetsAUmaskAndStopsForNoTerminal) {
  const auto check = [](ProgramKind kind, mode_t mask, bool ignores) {
    umask(0077);
    static_cast<void>(std::signal(SIGTTOU, SIG_DFL));
    const bool prepared = PrepareProcess(kind);
    struct sigaction action {};
    sigaction(SIGTTOU, nullptr, &action);
    EndWith(prepared && umask(0) == mask && (action.sa_handler == SIG_IGN) == ignores);
  };
  EXPECT_EXIT(check(ProgramKind::kDaemon, 0022, true), ExitedWithCode(0), "");
  EXPECT_EXIT(check(ProgramKind::kClient, 0077, false), ExitedWithCode(0), "");
}

void Throw(bool memory) {
  if (memory) {
    throw std::bad_alloc();
  }
  throw std::system_error(EAGAIN, std::generic_category(), "a thread");
}

TEST(PrepareProcess, WantOfMemoryOrThreadsEndsWithAMessage) {
  const auto check = [](bool memory) noexcept {
    static_cast<void>(PrepareProcess(ProgramKind::kDaemon));
    Throw(memory);
  };
  EXPECT_EXIT(check(true), ExitedWithCode(1), "out of memory");
  EXPECT_EXIT(check(false), ExitedWithCode(1), "a thread: .* unavailable");
}

TEST(UnblockSignals, Unblocks) {
  const auto check = [] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    UnblockSignals();
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    EndWith(sigisemptyset(&now) == 1);
  };
  EXPECT_EXIT(check(), ExitedWithCode(0), "");
}

}  // namespace
}  // namespace supervisor
