/* What the bench starts: a program so small that what is measured is its supervisor.
 *
 *   bench_service FILE             appends "PID NANOSECONDS\n" (CLOCK_MONOTONIC) to FILE as the first thing it does,
 *                                  then waits for a signal
 *   bench_service write MB         writes lines of 100 bytes, 64 KiB at a time, to its standard output, and ends
 *   bench_service flood            the same without an end
 *   bench_service stamp MS COUNT   writes so many lines, each with its instant (nanoseconds, CLOCK_MONOTONIC), one
 *                                  every MS milliseconds, and waits for a signal
 *   bench_service spawn N DIR FILE no supervisor at all: starts N of itself with posix_spawn, the output of each
 *                                  into DIR/I.log, waits for SIGTERM, ends all and reaps them
 *   bench_service splice MB OUT    the bare capture: a child writes as above into a 1 MiB pipe, splice(2) moves it
 *                                  into OUT.0, OUT.1, ..., a new one at every 50 MB; the newest three stay
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

static void Fail(const char* what) {
  fprintf(stderr, "bench_service: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void Record(const char* file) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  char line[64];
  const int length = snprintf(line, sizeof line, "%d %lld\n", (int)getpid(), now.tv_sec * 1000000000LL + now.tv_nsec);
  const int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, line, (size_t)length) != length) {
    Fail(file);
  }
  close(fd);
}

static void Write(long megabytes) {
  enum { kLine = 100, kBlock = 65500 };
  static char block[kBlock];
  memset(block, 'x', sizeof block);
  for (int i = kLine - 1; i < kBlock; i += kLine) {
    block[i] = '\n';
  }
  for (long long left = megabytes < 0 ? LLONG_MAX : (long long)megabytes << 20; left > 0;) {
    const ssize_t written = write(STDOUT_FILENO, block, left < kBlock ? (size_t)left : kBlock);
    if (written < 0) {
      Fail("write");
    }
    left -= written;
  }
}

static void Stamp(long milliseconds, long count) {
  struct timespec due;
  clock_gettime(CLOCK_MONOTONIC, &due);
  for (long i = 0; i < count; ++i) {
    due.tv_nsec += milliseconds * 1000000L;
    due.tv_sec += due.tv_nsec / 1000000000L;
    due.tv_nsec %= 1000000000L;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[64];
    const int length = snprintf(line, sizeof line, "stamp %lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
      Fail("write");
    }
  }
  for (;;) {
    pause();
  }
}

static void Spawn(int count, const char* directory, const char* file) {
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  sigprocmask(SIG_BLOCK, &end, NULL);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  pid_t* pids = calloc((size_t)count, sizeof *pids);
  char program[] = "/proc/self/exe";
  char path[4096];
  const ssize_t length = readlink(program, path, sizeof path - 1);
  if (pids == NULL || length < 0) {
    Fail("spawn");
  }
  path[length] = '\0';
  char* file_argument = strdup(file);
  char* arguments[] = {path, file_argument, NULL};
  for (int i = 0; i < count; ++i) {
    char log[4096];
    snprintf(log, sizeof log, "%s/%d.log", directory, i);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    errno = posix_spawn(&pids[i], path, &actions, &attributes, arguments, environ);
    if (errno != 0) {
      Fail("posix_spawn");
    }
    posix_spawn_file_actions_destroy(&actions);
  }
  int signal_number;
  sigwait(&end, &signal_number);
  for (int i = 0; i < count; ++i) {
    kill(pids[i], SIGTERM);
  }
  while (wait(NULL) > 0) {
  }
  free(file_argument);
  free(pids);
}

static void Splice(long megabytes, const char* out) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[0], F_SETPIPE_SZ, 1 << 20) < 0) {
    Fail("pipe");
  }
  const pid_t child = vfork();
  if (child == 0) {
    char count[32];
    snprintf(count, sizeof count, "%ld", megabytes);
    dup2(ends[1], STDOUT_FILENO);
    execl("/proc/self/exe", "bench_service", "write", count, (char*)NULL);
    _exit(127);
  }
  close(ends[1]);
  int fd = -1;
  long long in_file = 0;
  for (int number = 0;;) {
    if (fd < 0 || in_file >= 50LL << 20) {
      char path[4096];
      if (fd >= 0) {
        close(fd);
      }
      if (number >= 3) {
        snprintf(path, sizeof path, "%s.%d", out, number - 3);
        unlink(path);
      }
      snprintf(path, sizeof path, "%s.%d", out, number++);
      fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
      in_file = 0;
      if (fd < 0) {
        Fail(path);
      }
    }
    const ssize_t moved = splice(ends[0], NULL, fd, NULL, 1 << 20, SPLICE_F_MOVE);
    if (moved < 0) {
      Fail("splice");
    }
    if (moved == 0) {
      break;
    }
    in_file += moved;
  }
  waitpid(child, NULL, 0);
}

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "flood") == 0) {
    Write(-1);
    return 0;
  }
  if (argc == 2) {
    Record(argv[1]);
    for (;;) {
      pause();
    }
  }
  if (argc == 3 && strcmp(argv[1], "write") == 0) {
    Write(atol(argv[2]));
    return 0;
  }
  if (argc == 4 && strcmp(argv[1], "stamp") == 0) {
    Stamp(atol(argv[2]), atol(argv[3]));
    return 0;
  }
  if (argc == 4 && strcmp(argv[1], "splice") == 0) {
    Splice(atol(argv[2]), argv[3]);
    return 0;
  }
  if (argc == 5 && strcmp(argv[1], "spawn") == 0) {
    Spawn(atoi(argv[2]), argv[3], argv[4]);
    return 0;
  }
  fprintf(stderr, "usage: see the head of bench_service.c\n");
  return 2;
}
