#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "daemon/service/supervisor.h"

// What the supervisor measures and keeps beside the machines: usage, what alerts go by, how runs ended.

namespace supervisor {
namespace {

constexpr size_t kUsageSlice = 32;
// A service shows what it uses soon after it has started; long enough for rates between two of these samples.
constexpr absl::Duration kFirstUsage = absl::Seconds(1);
constexpr uint64_t kKeptLines = 50;

}  // namespace

std::vector<AlertSubject> Supervisor::AlertSubjects() const {
  using Standing = AlertSubject::Standing;
  using Verdict = AlertSubject::Verdict;
  const auto standing = [](Phase phase) {
    switch (StateOf(phase)) {
      case ServiceState::kStopped:
      case ServiceState::kExited:
        return Standing::kDown;
      case ServiceState::kRunning:
        return Standing::kUp;
      case ServiceState::kFailed:
        return Standing::kFailed;
      case ServiceState::kStarting:
      case ServiceState::kStopping:
      case ServiceState::kBackoff:
        return Standing::kComingUp;
    }
    return Standing::kComingUp;
  };
  const auto verdict = [](const Instance& instance) {
    if (instance.config().health_check.type == HealthCheckType::kNone) {
      return Verdict::kNoCheck;
    }
    switch (instance.health().health()) {
      case Health::kUnknown:
      case Health::kStarting:
        return Verdict::kUnknown;
      case Health::kHealthy:
        return Verdict::kHealthy;
      case Health::kUnhealthy:
        return Verdict::kUnhealthy;
    }
    return Verdict::kUnknown;
  };
  std::vector<AlertSubject> subjects;
  subjects.reserve(instances_.size());
  for (const auto& [id, instance] : instances_) {
    const MachineState& machine = instance->machine();
    subjects.push_back({.id = id,
                        .service_id = instance->config().id,
                        .depends_on = &instance->config().depends_on,
                        .critical = instance->config().critical,
                        .wanted = machine.desired_up,
                        .standing = standing(machine.phase),
                        .verdict = verdict(*instance),
                        .run = instance->run(),
                        .exceeds_limit = instance->exceeds_limit(),
                        .reason = machine.reason});
  }
  return subjects;
}

void Supervisor::SampleUsage() {
  usage_timer_->ArmAfter(config_.monitoring.metrics_interval);
  for (const auto& [id, instance] : instances_) {
    instance->TidyRecord();
  }
  Measure([](const Instance& instance) { return instance.HasProgram(); });
}

// Who has just come would be told as using nothing until the interval is over. Not pushed back by those who follow.
void Supervisor::AwaitFirstUsage() {
  if (!std::exchange(awaits_first_usage_, true)) {
    first_usage_timer_->ArmAfter(kFirstUsage);
  }
}

void Supervisor::SampleFirstUsage() {
  awaits_first_usage_ = false;
  Measure([](const Instance& instance) { return instance.AwaitsUsage(); });
}

// Beside the loop, since the kernel takes its time over large processes; one round at a time.
void Supervisor::Measure(bool (*wanted)(const Instance&)) {
  if (sampling_) {
    return;  // when that is through whoever still waits is seen to
  }
  auto samples = std::make_shared<std::vector<Sample>>();
  for (const auto& [id, instance] : instances_) {
    if (wanted(*instance)) {
      Instance::UsageRequest request = instance->RequestUsage();
      samples->push_back(
          {.id = id, .sampler = std::move(request.sampler), .tree = std::move(request.tree), .usage = {}});
    }
  }
  if (samples->empty()) {
    return;
  }
  sampling_ = true;
  using Samples = std::shared_ptr<std::vector<Sample>>;
  measuring_.Ask<Samples>(
      alive_,
      [samples] {
        EveryProcess everybody;
        for (Sample& sample : *samples) {
          sample.usage = sample.sampler->Sample(sample.tree, everybody, MonotonicNow());
        }
        return samples;
      },
      [this](const absl::StatusOr<Samples>& taken) {
        sampling_ = false;
        if (taken.ok()) {
          TakeSamples(*taken, 0);
        }
        if (std::ranges::any_of(instances_, [](const auto& entry) { return entry.second->AwaitsUsage(); })) {
          AwaitFirstUsage();
        }
      });
}

// In slices, so that a thousand services do not hold up the loop.
void Supervisor::TakeSamples(std::shared_ptr<std::vector<Sample>> samples, size_t from) {
  const MonoTime now = MonotonicNow();
  const absl::Time wall = WallNow();
  const size_t to = std::min(samples->size(), from + kUsageSlice);
  for (size_t i = from; i < to; ++i) {
    const Sample& sample = (*samples)[i];
    Instance* instance = Find(sample.id);
    if (instance == nullptr || !instance->TakeUsage(sample.sampler, sample.usage, now)) {
      continue;
    }
    const Usage& usage = sample.usage;
    store_.RecordMetrics({.service_id = sample.id,
                          .timestamp = wall,
                          .cpu_percent = usage.cpu_percent,
                          .memory_mb = usage.memory_mb,
                          .health_status = HealthName(instance->health().health()),
                          .response_time_ms = std::nullopt});
    store_.RecordUsage({.service_id = sample.id,
                        .timestamp = wall,
                        .processes = usage.processes,
                        .descriptors = usage.descriptors,
                        .read_bytes_per_second = usage.read_bytes_per_second,
                        .written_bytes_per_second = usage.written_bytes_per_second});
    alerts_.OnSample(sample.id, *instance->run(), usage.cpu_percent, usage.memory_mb);
    store_.UpdateService(RowOf(*instance));  // whoever reads the table sees its uptime grow
  }
  if (to < samples->size()) {
    loop_.Post([this, samples = std::move(samples), to]() mutable { TakeSamples(std::move(samples), to); });
  }
}

// ------------------------------------------------------------------------------------------------ how runs ended

const EndedRun* Supervisor::AbnormalEnd(const Instance& instance, const RecordEvent& event) {
  if (!event.exit || event.type != "exited") {
    return nullptr;
  }
  const std::vector<int>& good = instance.config().restart_policy.success_exit_codes;
  const std::optional<int> code = event.exit->exit_code();
  return code && std::ranges::count(good, *code) > 0 ? nullptr : &instance.run_end();
}

// After the events themselves have been handed on: the lines come when the pump has brought the last of them to the
// file and somebody has read it, and nothing waits for that.
void Supervisor::KeepLastLines() {
  for (WantsLines& wants : std::exchange(want_lines_, {})) {
    const std::vector<std::string> streams = wants.streams;
    const std::function<void()> read = [reader = last_lines_, &files = files_, &store = store_,
                                        wants = std::move(wants)] {
      reader->Read(wants.of, kKeptLines, [&files, &store, event = wants.event](const std::vector<std::string>& lines) {
        if (lines.empty()) {
          return;
        }
        EventAmendment amendment = event;
        amendment.last_lines = LastLinesAsJson(lines);
        files.Post([&store, amendment = std::move(amendment)] { store.AmendEvent(amendment); });
        files.Wake();
      });
    };
    AfterOutput(streams, read);
  }
}

}  // namespace supervisor
