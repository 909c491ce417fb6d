#include "daemon/service/notify_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "common/passed_fd.h"
#include "common/refuse_rights.h"

namespace supervisor {
namespace {

TEST(Notification, TheLinesThatCount) {
  const Notification notification = ParseNotification("STATUS=Loading 3 of 7\nREADY=1\nMAINPID=4711\nX_UNKNOWN=1");
  EXPECT_TRUE(notification.ready);
  EXPECT_FALSE(notification.stopping);
  EXPECT_EQ(notification.status, "Loading 3 of 7");
  EXPECT_EQ(notification.main_pid, 4711);
  EXPECT_TRUE(ParseNotification("STOPPING=1").stopping);
  EXPECT_TRUE(ParseNotification("RELOADING=1\nMONOTONIC_USEC=123").reloading);
  EXPECT_TRUE(ParseNotification("WATCHDOG=1").alive);
  EXPECT_TRUE(ParseNotification("WATCHDOG=trigger").hung);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=2500000").watchdog, absl::Milliseconds(2500));
  EXPECT_EQ(ParseNotification("EXTEND_TIMEOUT_USEC=5000000").extend, absl::Seconds(5));
}

TEST(Notification, ValuesThatMakeNoSenseAreNotSaid) {
  EXPECT_EQ(ParseNotification("MAINPID=-1").main_pid, 0);
  EXPECT_EQ(ParseNotification("MAINPID=1").main_pid, 0) << "no service is init";
  EXPECT_EQ(ParseNotification("MAINPID=12x").main_pid, 0);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=").watchdog, std::nullopt);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=-5").watchdog, std::nullopt);
  EXPECT_EQ(ParseNotification("WATCHDOG_USEC=18446744073709551615").watchdog, std::nullopt) << "as good as for ever";
  EXPECT_EQ(ParseNotification("EXTEND_TIMEOUT_USEC=1e6").extend, absl::ZeroDuration());
}

TEST(Notification, WhatIsNotReadyIsNot) {
  EXPECT_FALSE(ParseNotification("READY=0").ready);
  EXPECT_FALSE(ParseNotification("READY=10").ready);
  EXPECT_FALSE(ParseNotification("").ready);
  EXPECT_FALSE(ParseNotification("NOTREADY=1\n\n\n").ready);
}

TEST(Notification, AStatusIsOneBoundedPrintableLine) {
  EXPECT_EQ(ParseNotification("STATUS=a\tb\x1b[31m").status, "a?b?[31m");
  EXPECT_LE(ParseNotification("STATUS=" + std::string(5000, 'x')).status.size(), 256u);
}

// ------------------------------------------------------------------------------------------------- the socket

// A sender that is connected to the path.
UniqueFd SenderTo(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << strerror(errno);
  return fd;
}

ssize_t SendWith(int socket, const std::string& text, int passed) {
  return SendWithFd(socket, 0, text.data(), text.size(), passed);
}

class NotifySocketTest : public ::testing::Test {
 protected:
  ~NotifySocketTest() override { std::filesystem::remove(path_); }

  // As a kernel that cannot refuse descriptors leaves it: made by somebody else, and taken over.
  std::unique_ptr<NotifySocket> OpenOld() {
    UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int on = 1;
    EXPECT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << strerror(errno);
    return NotifySocket::Resume(loop_, path_, std::move(fd), [this](const Notification& heard) { Hear(heard); });
  }
  std::unique_ptr<NotifySocket> Open() {
    auto opened = NotifySocket::Open(loop_, path_, geteuid(), [this](const Notification& heard) { Hear(heard); });
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : nullptr;
  }
  void Hear(const Notification& heard) {
    EXPECT_EQ(heard.sender, getpid());
    heard_.push_back(heard.status);
    if (heard_.size() == wanted_) {
      loop_.Stop();
    }
  }

  const std::string path_ = fmt::format("{}/notify-{}", std::filesystem::temp_directory_path().string(), getpid());
  Loop loop_;
  size_t wanted_ = 1;
  std::vector<std::string> heard_;
};

TEST_F(NotifySocketTest, DescriptorsAreRefusedWhereTheKernelCan) {
  const std::unique_ptr<NotifySocket> notify = Open();
  ASSERT_NE(notify, nullptr);
  if (!RefusesRights(notify->fd())) {
    GTEST_SKIP() << "Linux before 6.16";
  }
  const UniqueFd sender = SenderTo(path_);
  EXPECT_EQ(SendWith(sender.get(), "STATUS=a", STDIN_FILENO), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(send(sender.get(), "STATUS=b", 8, 0), 8);
  loop_.Run();
  EXPECT_EQ(heard_, std::vector<std::string>{"b"});
}

TEST_F(NotifySocketTest, WhereItCannotWhatCameAlongIsClosedAndTheTextHeard) {
  const std::unique_ptr<NotifySocket> notify = OpenOld();
  const UniqueFd sender = SenderTo(path_);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  EXPECT_EQ(send(sender.get(), "STATUS=a", 8, 0), 8);
  EXPECT_EQ(SendWith(sender.get(), "STATUS=b", ends[1]), 8);
  EXPECT_EQ(send(sender.get(), "STATUS=c", 8, 0), 8);
  close(ends[1]);
  wanted_ = 3;
  loop_.Run();
  EXPECT_EQ(heard_, (std::vector<std::string>{"a", "b", "c"})) << "in their order";
  char byte = 0;
  EXPECT_EQ(read(read_end.get(), &byte, 1), 0) << "nobody has the other end open any more";
}

TEST_F(NotifySocketTest, WhatLiesInAnOldOneIsReleasedWhenItGoes) {
  std::unique_ptr<NotifySocket> notify = OpenOld();
  const UniqueFd kept(fcntl(notify->fd(), F_DUPFD_CLOEXEC, 0));  // as the guardian has it
  const UniqueFd sender = SenderTo(path_);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  EXPECT_EQ(SendWith(sender.get(), "STATUS=b", ends[1]), 8);
  close(ends[1]);
  notify.reset();
  pollfd ended{.fd = read_end.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&ended, 1, 60'000), 1) << "its queue is emptied, on another thread";
  EXPECT_EQ(SendWith(sender.get(), "STATUS=c", STDIN_FILENO), -1) << "and nothing more comes";
}

TEST_F(NotifySocketTest, AFloodIsHeardInItsOrderAndMadeToWait) {
  for (const bool is_old : {false, true}) {
    const std::unique_ptr<NotifySocket> notify = is_old ? OpenOld() : Open();
    heard_.clear();
    wanted_ = 200;
    std::thread flood([this] {
      const UniqueFd sender = SenderTo(path_);
      for (size_t i = 0; i < wanted_; ++i) {
        const std::string text = fmt::format("STATUS={}", i);
        EXPECT_EQ(send(sender.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
      }
    });
    loop_.Run();
    flood.join();
    ASSERT_EQ(heard_.size(), wanted_);
    EXPECT_EQ(heard_.front(), "0");
    EXPECT_EQ(heard_.back(), "199");
  }
}

}  // namespace
}  // namespace supervisor
