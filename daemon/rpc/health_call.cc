#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/rpc/request_targets.h"
#include "daemon/rpc/supervisor_service.h"
#include "daemon/rpc/wire.h"

// `health`: verdicts and the newest results are the loop's own; response times over the last day, and results from
// before this daemon, are read from the database, which may be slow or in trouble and then only makes the answer
// shorter.

namespace supervisor {
namespace {

constexpr uint32_t kDefaultHistory = 10;
constexpr size_t kMostRows = 100'000;  // a day with a check a second
// Rows from outside are no results, and stand between them.
constexpr size_t kRowsForOneResult = 4;

struct SpanSummary {
  uint32_t checks = 0;
  double success_rate = 0;  // percent
  double p50_ms = 0;
  double p95_ms = 0;
};

// Percentiles by nearest rank, of the checks that succeeded: a refused connection is quick, and says nothing of how
// quick the service is.
SpanSummary Summarize(const std::vector<MetricRow>& rows, absl::Time since) {
  SpanSummary summary;
  std::vector<double> times;
  for (const MetricRow& row : rows) {
    if (row.timestamp < since) {
      continue;
    }
    ++summary.checks;
    if (row.health_status == HealthName(Health::kHealthy)) {
      times.push_back(row.response_time_ms.value_or(0));
    }
  }
  if (times.empty()) {
    return summary;
  }
  summary.success_rate = 100.0 * static_cast<double>(times.size()) / summary.checks;
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    const double rank = std::ceil(share * static_cast<double>(times.size()));
    return times[static_cast<size_t>(std::max(1.0, rank)) - 1];
  };
  summary.p50_ms = at(0.50);
  summary.p95_ms = at(0.95);
  return summary;
}

// What the database says of one service. Made on its thread, since sorting a day's results takes a while.
struct Found {
  SpanSummary hour;
  SpanSummary day;
  std::vector<MetricRow> newest;  // oldest first
};

Found FoundIn(std::vector<MetricRow> rows, absl::Time now, size_t wanted) {
  // A response time from outside that says nothing of how it came out is no result.
  std::erase_if(rows, [](const MetricRow& row) {
    return row.health_status != HealthName(Health::kHealthy) && row.health_status != HealthName(Health::kUnhealthy);
  });
  Found found{
      .hour = Summarize(rows, now - absl::Hours(1)), .day = Summarize(rows, now - absl::Hours(24)), .newest = {}};
  const auto count = static_cast<std::ptrdiff_t>(std::min(rows.size(), wanted));
  found.newest.assign(std::make_move_iterator(rows.end() - count), std::make_move_iterator(rows.end()));
  return found;
}

v1::HealthState ResultOf(const MetricRow& row) {
  return row.health_status == HealthName(Health::kHealthy) ? v1::HEALTH_STATE_HEALTHY : v1::HEALTH_STATE_UNHEALTHY;
}

void SetTimes(const Found& found, v1::ServiceHealth* out) {
  out->set_p50_ms_hour(found.hour.p50_ms);
  out->set_p95_ms_hour(found.hour.p95_ms);
  out->set_p50_ms_day(found.day.p50_ms);
  out->set_p95_ms_day(found.day.p95_ms);
  out->set_checks_hour(found.hour.checks);
  out->set_success_rate_hour(found.hour.success_rate);
  out->set_checks_day(found.day.checks);
  out->set_success_rate_day(found.day.success_rate);
}

// Lays the newest results of the database beneath what the loop knew.
void AddHistory(const std::vector<MetricRow>& rows, size_t wanted, v1::ServiceHealth* out) {
  const auto end = out->history().empty() ? rows.end() : std::find_if(rows.begin(), rows.end(), [&](const auto& row) {
    return wire::UnixMillis(row.timestamp) >= out->history(0).timestamp_unix_ms();
  });
  const size_t missing = wanted - std::min<size_t>(wanted, static_cast<size_t>(out->history().size()));
  google::protobuf::RepeatedPtrField<v1::HealthResult> history;
  for (auto row = end - std::min(static_cast<std::ptrdiff_t>(missing), end - rows.begin()); row != end; ++row) {
    v1::HealthResult* entry = history.Add();
    entry->set_timestamp_unix_ms(wire::UnixMillis(row->timestamp));
    entry->set_health(ResultOf(*row));
    entry->set_response_time_ms(*row->response_time_ms);
  }
  history.MergeFrom(out->history());
  *out->mutable_history() = std::move(history);
  if (out->last_check_unix_ms() == 0 && !rows.empty()) {
    out->set_last_check_unix_ms(wire::UnixMillis(rows.back().timestamp));
    out->set_response_time_ms(*rows.back().response_time_ms);
  }
}

// One call that waits for the database. Loop thread, but for the rows on their way.
class HealthCall : public std::enable_shared_from_this<HealthCall> {
 public:
  HealthCall(Loop& loop, grpc::ServerUnaryReactor* reactor, v1::HealthResponse* response, size_t wanted)
      : loop_(loop), reactor_(reactor), response_(response), wanted_(wanted) {}

  // Once, when the verdicts are in the response.
  void Begin(Store& store) {
    for (int i = 0; i < response_->services_size(); ++i) {
      if (!response_->services(i).check_type().empty()) {
        ++waits_for_;
        // The last day, for its response times; what is further back only where the newest results are.
        Ask(store,
            {.service_id = response_->services(i).id(),
             .since = now_ - absl::Hours(24),
             .limit = kMostRows,
             .health_only = true},
            [self = shared_from_this(), &store, i](const absl::StatusOr<Found>& found) {
              self->Take(store, i, found);
            });
      }
    }
    FinishWhenDone();
  }

 private:
  void Ask(Store& store, const Store::MetricQuery& query, std::function<void(absl::StatusOr<Found>)> done) const {
    store.QueryMetrics(query, [answer = FromStore<Found>(loop_, std::move(done)), now = now_,
                               wanted = wanted_](absl::StatusOr<std::vector<MetricRow>> rows) {
      answer(rows.ok() ? FoundIn(*std::move(rows), now, wanted) : absl::StatusOr<Found>(rows.status()));
    });
  }

  void Take(Store& store, int service, const absl::StatusOr<Found>& found) {
    v1::ServiceHealth* out = response_->mutable_services(service);
    if (!found.ok()) {
      Miss(found.status());
      return;
    }
    SetTimes(*found, out);
    if (std::max(found->newest.size(), static_cast<size_t>(out->history_size())) >= wanted_) {
      AddHistory(found->newest, wanted_, out);
      Done();
      return;
    }
    Ask(store, {.service_id = out->id(), .limit = wanted_ * kRowsForOneResult, .health_only = true},
        [self = shared_from_this(), out](const absl::StatusOr<Found>& further) {
          if (!further.ok()) {
            self->Miss(further.status());
            return;
          }
          AddHistory(further->newest, self->wanted_, out);
          self->Done();
        });
  }

  void Miss(const absl::Status& why) {
    response_->set_notice(fmt::format("history and response times are of this daemon's time only: {}",
                                      wire::Utf8(std::string(why.message()))));
    Done();
  }

  void Done() {
    --waits_for_;
    FinishWhenDone();
  }

  void FinishWhenDone() {
    if (waits_for_ == 0) {
      reactor_->Finish(grpc::Status::OK);
    }
  }

  Loop& loop_;
  grpc::ServerUnaryReactor* reactor_;
  v1::HealthResponse* response_;
  const size_t wanted_;
  const absl::Time now_ = WallNow();
  int waits_for_ = 0;
};

}  // namespace

grpc::ServerUnaryReactor* SupervisorService::Health(grpc::CallbackServerContext* call, const v1::HealthRequest* request,
                                                    v1::HealthResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  OnTurnOf(call, reactor, [this, reactor, request, response] {
    const absl::StatusOr<std::vector<std::string>> targets = BoundedTargets(request->targets());
    const auto instances = targets.ok() ? context_.supervisor.Resolve(*targets) : targets.status();
    if (!instances.ok()) {
      reactor->Finish(wire::ToGrpc(instances.status()));
      return;
    }
    const size_t wanted = request->history() > 0 ? request->history() : kDefaultHistory;
    response->set_status(wire::ToWire(context_.supervisor.system_health()));
    for (const Instance* instance : *instances) {
      wire::FillHealth(*instance, wanted, response->add_services());
    }
    // The overview of all is asked for often, and shows none of what the database has.
    if (targets->empty() && request->history() == 0) {
      reactor->Finish(grpc::Status::OK);
      return;
    }
    std::make_shared<HealthCall>(context_.loop, reactor, response, wanted)->Begin(context_.store);
  });
  return reactor;
}

}  // namespace supervisor
