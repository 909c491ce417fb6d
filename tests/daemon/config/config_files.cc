#include "tests/daemon/config/config_files.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace supervisor {

ConfigFiles::ConfigFiles() {
  std::string name = (std::filesystem::temp_directory_path() / "supervisor-config-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error("mkdtemp failed");
  }
  directory_ = name;
  main_file_ = directory_ + "/supervisor_config.json";
}

ConfigFiles::~ConfigFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string ConfigFiles::Write(const std::string& name, const std::string& text) const {
  std::string path = PathOf(name);
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::filesystem::remove(path);  // some file systems wait for the disk when a file is emptied and written again
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  chmod(path.c_str(), 0644);
  return path;
}

LoadedConfig ConfigFiles::Load(const std::string& text, const std::map<std::string, std::string>& environment) const {
  Write("supervisor_config.json", text);
  return LoadConfig(main_file_, [&environment](const std::string& name) {
    const auto found = environment.find(name);
    return found == environment.end() ? std::nullopt : std::optional<std::string>(found->second);
  });
}

std::vector<std::string> ConfigFiles::Errors(const std::string& text,
                                             const std::map<std::string, std::string>& environment) const {
  std::vector<std::string> lines;
  for (const ConfigError& error : Load(text, environment).errors) {
    std::string line = error.ToString();
    if (line.starts_with(main_file_ + ":")) {
      line.erase(0, main_file_.size() + 1);
    }
    lines.push_back(line);
  }
  return lines;
}

std::string Joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) {
    out += line + "\n";
  }
  return out;
}

std::string FullConfig() {
  return R"json({
  "version": "1.0",
  "global": {
    "check_interval": 20, "restart_delay": 2.5, "max_restart_attempts": 7,
    "log_directory": "logs", "pid_directory": "/run/pids", "socket": "run/s.sock", "socket_mode": "0600",
    "socket_group": "adm", "database": "./state.db", "log_file": "daemon.log", "log_level": "debug",
    "exit_on_critical_failure": true, "include": ["conf.d/*.json"]
  },
  "services": {
    "db": {"command": "db"},
    "web": {
      "enabled": false, "priority": 1, "critical": true, "name": "Web \u00e4", "description": "d", "port": 8080,
      "groups": ["backend", "x.y"], "command": "./bin/web", "args": ["--n", "${INSTANCE}", "$${X}", "${HOME}"],
      "working_directory": "web", "environment": {"KEY": "value", "E": ""}, "environment_file": "web.env",
      "user": "www", "group": "wwwgrp", "umask": "077", "no_new_privileges": true, "instances": 3,
      "depends_on": [{"service": "db", "condition": "completed"}],
      "readiness": {"type": "health_check", "uptime": 2, "timeout": 30, "max_extension": 7},
      "health_check": {
        "type": "http", "url": "https://127.0.0.1:8080/health", "method": "POST", "headers": {"X-A": "b"},
        "unix_socket": "web.sock", "verify_tls": false, "ca_file": "ca.pem", "follow_redirects": false,
        "tls_server_name": "web.example", "expected_status": [204, "2xx", "401-403"], "expected_content": "ok", "expected_regex": "^o\\w$", "host": "localhost",
        "port": 81, "service": "svc", "max_cpu_percent": 50, "max_memory_mb": 0.5, "command": "bin/check",
        "args": ["a"], "environment": "service", "interval": 1.5, "timeout": 2, "retries": 4, "start_period": 9, "success_threshold": 2,
        "on_failure": "alert"
      },
      "restart_policy": {"mode": "on-failure", "delay": 1, "backoff_multiplier": 1.5, "max_delay": 60, "jitter": 0,
                         "max_attempts": 0, "reset_after": 10, "success_exit_codes": [0, 3]},
      "resource_limits": {"max_memory_mb": 100, "max_cpu_percent": 90, "max_processes": 9, "max_open_files": 1024,
                          "nice": -5, "oom_score_adj": 500, "on_exceed": "alert"},
      "graceful_shutdown": {"signal": "SIGINT", "signal_to": "tree", "timeout": 0.5, "command": "/bin/stop", "args": ["now"],
                            "kill_mode": "process", "max_extension": 8},
      "hooks": {"pre_start": {"command": "./pre", "args": ["1"], "timeout": 3}, "post_start": {"command": "b"},
                "pre_stop": {"command": "c"}, "post_stop": {"command": "d"}},
      "logs": {"max_size_mb": 1, "max_files": 2, "compress": true, "timestamps": true, "stderr": "separate",
               "owner": "shipper", "group": "adm", "mode": "0640", "forward": "syslog"}
    }
  },
  "notifications": {
    "enabled": false, "min_severity": "warning", "min_interval": 5, "repeat_interval": 600,
    "channels": [{"type": "webhook", "url": "http://h/x", "headers": {"A": "b"}}, {"type": "slack", "url": "https://s/"},
                 {"type": "email", "smtp_url": "smtp://mail:25", "from": "A <a@b>", "to": ["c@d"], "username": "u@d",
                  "password": "p;#${HOME}", "helo": "me.example", "verify_tls": false, "ca_file": "mail.pem"},
                 {"type": "command", "command": "./notify", "args": ["x"]}]
  },
  "monitoring": {
    "metrics_interval": 1, "metrics_retention_days": 1.5, "events_retention_days": 2,
    "alerts": {"cpu_percent": 80, "memory_mb": 10, "for": 30, "restarts": 2, "restarts_window": 100}
  }
})json";
}

}  // namespace supervisor
