#include "tests/ctl/ctl_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>

namespace supervisor {
namespace {

constexpr int kPatienceMs = 60000;  // only a test that fails waits so long

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Pipe MakePipe() {
  std::array<int, 2> fds{};
  EXPECT_EQ(pipe2(fds.data(), O_CLOEXEC), 0);
  return {.read_end = UniqueFd(fds[0]), .write_end = UniqueFd(fds[1])};
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) {
    pointers.push_back(text.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

CtlProcess::CtlProcess(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                       const std::vector<std::string>& launcher) {
  Pipe out = MakePipe();
  Pipe err = MakePipe();
  std::vector<std::string> line = launcher;
  line.emplace_back(SUPERVISORCTL_PATH);
  line.insert(line.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment;
  // What a sanitizer was told of this run is not part of what a test chooses.
  for (const char* name : {"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name); value != nullptr) {
      variables.push_back(std::string(name) + "=" + value);
    }
  }
  posix_spawn_file_actions_t actions{};
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.write_end.get(), STDERR_FILENO);
  EXPECT_EQ(
      posix_spawn(&pid_, line.front().c_str(), &actions, nullptr, Pointers(line).data(), Pointers(variables).data()),
      0);
  posix_spawn_file_actions_destroy(&actions);
  out_ = std::move(out.read_end);
  err_ = std::move(err.read_end);
}

CtlProcess::~CtlProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

bool CtlProcess::Pump() {
  std::array<pollfd, 2> ready = {
      {{.fd = out_.get(), .events = POLLIN, .revents = 0}, {.fd = err_.get(), .events = POLLIN, .revents = 0}}};
  if (!out_ && !err_) {
    return false;
  }
  if (poll(ready.data(), ready.size(), kPatienceMs) <= 0) {
    ADD_FAILURE() << "no output and no end; so far: " << out_text_ << err_text_;
    Signal(SIGKILL);
    return false;
  }
  const auto take = [](const pollfd& source, UniqueFd& fd, std::string& text) {
    if (source.revents == 0) {
      return;
    }
    std::array<char, 65536> buffer{};
    const ssize_t size = read(fd.get(), buffer.data(), buffer.size());
    if (size <= 0) {
      fd.Reset();
    } else {
      text.append(buffer.data(), static_cast<size_t>(size));
    }
  };
  take(ready[0], out_, out_text_);
  take(ready[1], err_, err_text_);
  return true;
}

std::string CtlProcess::ReadLine() {
  size_t end = out_text_.find('\n');
  while (end == std::string::npos) {
    if (!Pump()) {
      ADD_FAILURE() << "it ended before the line came; stderr: " << err_text_;
      return {};
    }
    end = out_text_.find('\n');
  }
  const std::string line = out_text_.substr(0, end);
  out_text_.erase(0, end + 1);
  return line;
}

void CtlProcess::Signal(int signal) const { kill(pid_, signal); }

void CtlProcess::CloseStdout() { out_.Reset(); }

CtlResult CtlProcess::Wait() {
  while (Pump()) {
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          .exit_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
          .out = out_text_,
          .err = err_text_};
}

CtlResult RunCtl(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  return CtlProcess(arguments, environment).Wait();
}

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = testing::TempDir() + "supervisorctl-test-XXXXXX";
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace supervisor
