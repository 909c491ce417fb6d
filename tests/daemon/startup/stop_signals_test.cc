#include "daemon/startup/stop_signals.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>

namespace supervisor {
namespace {

constexpr pid_t kGuardian = 77;

signalfd_siginfo Info(int code, uint32_t pid) {
  signalfd_siginfo info{};
  info.ssi_code = code;
  info.ssi_pid = pid;
  return info;
}

TEST(SourceOf, TellsTheGuardianFromTheTerminalAndFromOthers) {
  EXPECT_EQ(SourceOf(Info(SI_USER, 77), kGuardian), SignalSource::kGuardian);
  EXPECT_EQ(SourceOf(Info(SI_USER, 78), kGuardian), SignalSource::kOther);
  EXPECT_EQ(SourceOf(Info(SI_USER, 0), 0), SignalSource::kOther) << "from outside of the pid namespace";
  EXPECT_EQ(SourceOf(Info(SI_KERNEL, 0), kGuardian), SignalSource::kKernel);
}

TEST(StopRequests, ASecondOneOfTheSameSourceIsTheSecond) {
  for (const SignalSource source : {SignalSource::kGuardian, SignalSource::kOther}) {
    StopRequests requests;
    EXPECT_EQ(requests.Take(source, true), 1);
    EXPECT_EQ(requests.Take(source, true), 2);
    EXPECT_EQ(requests.Take(source, true), 3);
  }
}

TEST(StopRequests, OneWishByTwoWaysIsOne) {
  StopRequests requests;
  EXPECT_EQ(requests.Take(SignalSource::kOther, true), 1);
  EXPECT_EQ(requests.Take(SignalSource::kGuardian, true), 1);
  EXPECT_EQ(requests.Take(SignalSource::kGuardian, true), 2);
  EXPECT_EQ(requests.Take(SignalSource::kOther, true), 2);
}

TEST(StopRequests, TheTerminalsOwnCountWhereNoGuardianForwardsThem) {
  StopRequests with_guardian;
  EXPECT_EQ(with_guardian.Take(SignalSource::kKernel, true), 0);
  EXPECT_EQ(with_guardian.Take(SignalSource::kGuardian, true), 1);
  StopRequests without;
  EXPECT_EQ(without.Take(SignalSource::kKernel, false), 1);
  EXPECT_EQ(without.Take(SignalSource::kKernel, false), 2);
}

}  // namespace
}  // namespace supervisor
