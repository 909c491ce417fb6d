#include "daemon/service/machine.h"

namespace supervisor {

ServiceState StateOf(Phase phase) {
  switch (phase) {
    case Phase::kStopped:
    case Phase::kBlocked:
      return ServiceState::kStopped;
    case Phase::kWaiting:
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
      return ServiceState::kStarting;
    case Phase::kRunning:
      return ServiceState::kRunning;
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      return ServiceState::kStopping;
    case Phase::kBackoff:
      return ServiceState::kBackoff;
    case Phase::kFailed:
      return ServiceState::kFailed;
    case Phase::kExited:
      return ServiceState::kExited;
  }
  return ServiceState::kStopped;
}

const char* StateName(ServiceState state) {
  switch (state) {
    case ServiceState::kStopped:
      return "stopped";
    case ServiceState::kStarting:
      return "starting";
    case ServiceState::kRunning:
      return "running";
    case ServiceState::kStopping:
      return "stopping";
    case ServiceState::kBackoff:
      return "backoff";
    case ServiceState::kFailed:
      return "failed";
    case ServiceState::kExited:
      return "exited";
  }
  return "stopped";
}

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kStopped:
      return "kStopped";
    case Phase::kWaiting:
      return "kWaiting";
    case Phase::kBlocked:
      return "kBlocked";
    case Phase::kPreStart:
      return "kPreStart";
    case Phase::kSpawning:
      return "kSpawning";
    case Phase::kBecomingReady:
      return "kBecomingReady";
    case Phase::kRunning:
      return "kRunning";
    case Phase::kPreStop:
      return "kPreStop";
    case Phase::kTerminating:
      return "kTerminating";
    case Phase::kKilling:
      return "kKilling";
    case Phase::kPostStop:
      return "kPostStop";
    case Phase::kBackoff:
      return "kBackoff";
    case Phase::kFailed:
      return "kFailed";
    case Phase::kExited:
      return "kExited";
  }
  return "?";
}

bool IsAlive(Phase phase) {
  switch (phase) {
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      return true;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      return false;
  }
  return false;
}

bool AwaitsItsTurnToStop(const MachineState& state) {
  const bool runs =
      state.phase == Phase::kSpawning || state.phase == Phase::kBecomingReady || state.phase == Phase::kRunning;
  return runs && (!state.desired_up || state.next == Next::kRestart);
}

bool IsGoingDown(const MachineState& state) {
  return IsAlive(state.phase) && state.stuck.empty() &&
         (!state.desired_up || state.next == Next::kRestart || StateOf(state.phase) == ServiceState::kStopping);
}

bool ComesBack(const MachineState& state) {
  return IsGoingDown(state) && state.desired_up && state.next == Next::kRestart;
}

bool IsComingUp(Phase phase) { return StateOf(phase) == ServiceState::kStarting; }

const char* HookName(HookKind kind) {
  switch (kind) {
    case HookKind::kPreStart:
      return "pre_start";
    case HookKind::kPostStart:
      return "post_start";
    case HookKind::kPreStop:
      return "pre_stop";
    case HookKind::kPostStop:
      return "post_stop";
  }
  return "?";
}

}  // namespace supervisor
