// What is said, and how the program ends, when there is no daemon to talk to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "ctl/unreachable.h"
#include "tests/ctl/ctl_process.h"
#include "tests/ctl/fake_supervisor.h"

namespace supervisor {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class UnreachableTest : public testing::Test {
 protected:
  void WritePidFile(const std::string& content) const { std::ofstream(directory_.path() + "/s.pid") << content; }
  CtlResult Status() const { return RunCtl({"status", "--socket", socket_}); }

  TemporaryDirectory directory_;
  std::string socket_ = directory_.path() + "/s.sock";
};

TEST_F(UnreachableTest, NoSocket) {
  const CtlResult result = Status();
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("cannot reach the daemon at " + socket_ + ": No such file or directory (ENOENT)"));
  EXPECT_THAT(result.err, HasSubstr("there is no " + directory_.path() + "/s.pid"));
  EXPECT_THAT(result.err, HasSubstr("supervisord -c FILE --daemon"));
  const CtlResult json = RunCtl({"status", "--json", "--socket", socket_});
  EXPECT_EQ(Json::parse(json.out)["error"]["code"], "unavailable");
}

TEST_F(UnreachableTest, ASocketThatNobodyListensTo) {
  FakeAnswers answers;
  {
    FakeSupervisor fake(socket_ + "2", &answers);
    ASSERT_EQ(link((socket_ + "2").c_str(), socket_.c_str()), 0);
  }
  const CtlResult result = Status();
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, HasSubstr("nobody listens there"));
}

TEST_F(UnreachableTest, NoSocketAtAllButAFile) {
  std::ofstream(socket_) << "text";
  const CtlResult result = Status();
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, HasSubstr("it is not a socket"));
}

TEST_F(UnreachableTest, TellsWhatThePidFileMeans) {
  WritePidFile("");
  EXPECT_EQ(FindDaemon(socket_).state, DaemonProcess::State::kUnreadable);
  WritePidFile("no number");
  EXPECT_EQ(FindDaemon(socket_).state, DaemonProcess::State::kUnreadable);
  WritePidFile("2147483646\n");
  EXPECT_EQ(FindDaemon(socket_).state, DaemonProcess::State::kDead);
  EXPECT_THAT(Status().err, HasSubstr("names pid 2147483646, which does not run"));
  WritePidFile(std::to_string(getpid()) + "\n");
  EXPECT_EQ(FindDaemon(socket_).state, DaemonProcess::State::kSomebodyElse);
  EXPECT_THAT(Status().err, HasSubstr("which is now another program"));
}

TEST_F(UnreachableTest, WaitsForADaemonThatIsBeingReplaced) {
  // A process that /proc calls supervisord, as the pid file says: somebody is there and will listen again.
  const std::string stand_in = directory_.path() + "/supervisord";
  ASSERT_EQ(symlink("/bin/sh", stand_in.c_str()), 0);
  CtlProcess shell({}, {}, {stand_in, "-c", "echo $$; kill -STOP $$"});
  WritePidFile(shell.ReadLine());
  ASSERT_EQ(FindDaemon(socket_).state, DaemonProcess::State::kAlive);
  CtlProcess process({"status", "--socket", socket_});
  FakeAnswers answers;
  answers.status = [](const v1::StatusRequest&, v1::StatusResponse*) { return grpc::Status::OK; };
  const FakeSupervisor fake(socket_, &answers);
  const CtlResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(UnreachableTest, LongPaths) {
  // At 107 bytes the last that fits; beyond it the directory's descriptor is the way in.
  FakeAnswers answers;
  answers.status = [](const v1::StatusRequest&, v1::StatusResponse*) { return grpc::Status::OK; };
  const std::string exact = directory_.path() + "/" + std::string(107 - directory_.path().size() - 1, 'x');
  {
    const FakeSupervisor fake(exact, &answers);
    EXPECT_EQ(RunCtl({"status", "--socket", exact}).exit_code, 0);
    const std::string padded = directory_.path() + std::string(100, '/') + exact.substr(directory_.path().size() + 1);
    EXPECT_EQ(RunCtl({"status", "--socket", padded}).exit_code, 0);
  }
  const CtlResult result = RunCtl({"status", "--socket", directory_.path() + "/" + std::string(200, 'x')});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, HasSubstr("a socket's can have at most 107"));
}

TEST_F(UnreachableTest, WhatIsForbiddenExits6) {
  FakeAnswers answers;
  const FakeSupervisor fake(socket_, &answers);
  ASSERT_EQ(chmod(socket_.c_str(), 0600), 0);
  ASSERT_EQ(chmod(directory_.path().c_str(), 0755), 0);
  std::vector<std::string> launcher;
  if (geteuid() == 0) {
    launcher = {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
  } else {
    ASSERT_EQ(chmod(socket_.c_str(), 0), 0);
  }
  const CtlResult result = CtlProcess({"status", "--socket", socket_}, {}, launcher).Wait();
  EXPECT_EQ(result.exit_code, 6) << result.err;
  EXPECT_THAT(result.err, HasSubstr("not permitted to use " + socket_));
  EXPECT_THAT(result.err, HasSubstr("root or in the socket's group"));
}

TEST_F(UnreachableTest, VersionStillShowsTheClient) {
  CtlResult result = RunCtl({"version", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.out, testing::StartsWith("supervisorctl "));
  EXPECT_THAT(result.err, HasSubstr("cannot reach the daemon"));
  result = RunCtl({"version", "--json", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 5);
  const Json json = Json::parse(result.out);
  EXPECT_TRUE(json["daemon"].is_null());
  EXPECT_TRUE(json["client"]["version"].is_string());
}

TEST_F(UnreachableTest, TheEnvironmentNamesTheSocket) {
  const CtlResult result = RunCtl({"status"}, {"SUPERVISOR_SOCKET=" + socket_});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, HasSubstr(socket_));
}

TEST_F(UnreachableTest, UsageErrorsNeedNoDaemon) {
  const CtlResult result = RunCtl({"statsu"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("supervisorctl --help"));
  EXPECT_EQ(RunCtl({"--help"}).exit_code, 0);
}

}  // namespace
}  // namespace supervisor
