#include "daemon/config/expand.h"

#include <fmt/format.h>

#include "daemon/config/interpolate.h"

namespace supervisor {
namespace {

class Expander {
 public:
  explicit Expander(int instance) : instance_(instance) {}

  void Apply(std::string& text) const { text = ReplaceInstance(text, instance_); }
  void Apply(std::vector<std::string>& texts) const {
    for (std::string& text : texts) {
      Apply(text);
    }
  }
  void Apply(std::map<std::string, std::string>& texts) const {
    for (auto& [name, text] : texts) {
      Apply(text);
    }
  }
  void Apply(CommandConfig& run) const {
    Apply(run.command);
    Apply(run.args);
  }
  void Apply(HealthCheckConfig& check) const {
    Apply(check.url);
    Apply(check.method);
    Apply(check.headers);
    Apply(check.unix_socket);
    Apply(check.ca_file);
    Apply(check.tls_server_name);
    Apply(check.expected_content);
    Apply(check.expected_regex);
    Apply(check.host);
    Apply(check.service);
    Apply(check.run);
  }
  void Apply(HooksConfig& hooks) const {
    Apply(hooks.pre_start.run);
    Apply(hooks.post_start.run);
    Apply(hooks.pre_stop.run);
    Apply(hooks.post_stop.run);
  }

 private:
  int instance_;
};

}  // namespace

std::vector<std::string> InstanceIds(const ServiceConfig& service) {
  if (service.instances <= 1) {
    return {service.id};
  }
  std::vector<std::string> ids;
  ids.reserve(static_cast<size_t>(service.instances));
  for (int i = 0; i < service.instances; ++i) {
    ids.push_back(fmt::format("{}:{}", service.id, i));
  }
  return ids;
}

std::string ServiceOfInstance(const std::string& instance) { return instance.substr(0, instance.find(':')); }

std::vector<std::string> EnabledInstanceIds(const Config& config) {
  std::vector<std::string> ids;
  for (const auto& [id, service] : config.services) {
    if (service.enabled) {
      const std::vector<std::string> instances = InstanceIds(service);
      ids.insert(ids.end(), instances.begin(), instances.end());
    }
  }
  return ids;
}

ServiceConfig ForInstance(const ServiceConfig& service, int instance) {
  const Expander expander(instance);
  ServiceConfig out = service;
  expander.Apply(out.name);
  expander.Apply(out.description);
  expander.Apply(out.run);
  expander.Apply(out.working_directory);
  expander.Apply(out.environment);
  expander.Apply(out.environment_file);
  expander.Apply(out.user);
  expander.Apply(out.group);
  expander.Apply(out.health_check);
  expander.Apply(out.graceful_shutdown.run);
  expander.Apply(out.hooks);
  expander.Apply(out.logs.owner);
  expander.Apply(out.logs.group);
  return out;
}

}  // namespace supervisor
