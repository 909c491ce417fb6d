#include "daemon/health/curl_driver.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <utility>

namespace supervisor {
namespace {

std::set<int> OpenDescriptors() {
  std::set<int> descriptors;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    int fd = -1;
    std::from_chars(name.data(), name.data() + name.size(), fd);
    descriptors.insert(fd);
  }
  // That of the directory itself, closed by now, is listed too.
  std::erase_if(descriptors, [](int fd) { return fcntl(fd, F_GETFD) < 0; });
  return descriptors;
}

// curl 7.88's wake-up socket pair lacks close-on-exec, so every program started from here would inherit it. Whatever
// other threads open meanwhile has the flag anyway: the rule of the house.
CURLM* NewMultiClosedOnExec(const CurlApi& api) {
  const std::set<int> before = OpenDescriptors();
  CURLM* multi = api.multi_init();
  for (const int fd : OpenDescriptors()) {
    if (!before.contains(fd)) {
      fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
  }
  return multi;
}

}  // namespace

CurlDriver::CurlDriver(Loop& loop) : loop_(loop) {}

CurlDriver::~CurlDriver() {
  if (multi_ != nullptr) {
    api_->multi_cleanup(multi_);
  }
}

absl::Status CurlDriver::Prepare() {
  if (multi_ != nullptr) {
    return absl::OkStatus();
  }
  const absl::StatusOr<const CurlApi*> api = LoadCurl();
  if (!api.ok()) {
    return api.status();
  }
  api_ = *api;
  multi_ = NewMultiClosedOnExec(*api_);
  if (multi_ == nullptr) {
    return absl::ResourceExhaustedError("libcurl cannot make a multi handle: out of memory or descriptors");
  }
  timer_ = loop_.NewTimer([this] { Act(CURL_SOCKET_TIMEOUT, 0); });
  api_->multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &CurlDriver::OnSocket);
  api_->multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  api_->multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &CurlDriver::OnTimer);
  api_->multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  api_->multi_setopt(multi_, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
  api_->multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 2L);  // nothing is kept anyway: FORBID_REUSE
  return absl::OkStatus();
}

absl::Status CurlDriver::Add(CURL* easy, Done done) {
  transfers_[easy] = std::move(done);
  if (const CURLMcode code = api_->multi_add_handle(multi_, easy); code != CURLM_OK) {
    transfers_.erase(easy);
    return absl::InternalError(fmt::format("libcurl: {}", api_->multi_strerror(code)));
  }
  return absl::OkStatus();
}

void CurlDriver::Remove(CURL* easy) {
  if (transfers_.erase(easy) > 0) {
    api_->multi_remove_handle(multi_, easy);
  }
}

int CurlDriver::OnSocket(CURL* /*easy*/, curl_socket_t socket, int what, void* self, void* /*socket_data*/) {
  static_cast<CurlDriver*>(self)->Watch(socket, what);
  return 0;
}

int CurlDriver::OnTimer(CURLM* /*multi*/, long timeout_ms, void* self) {
  auto* driver = static_cast<CurlDriver*>(self);
  if (timeout_ms < 0) {
    driver->timer_->Disarm();
  } else {
    driver->timer_->ArmAfter(absl::Milliseconds(timeout_ms));
  }
  return 0;
}

void CurlDriver::Watch(curl_socket_t socket, int what) {
  if (what == CURL_POLL_REMOVE) {
    watches_.erase(socket);
    return;
  }
  const Loop::Interest interest = what == CURL_POLL_IN    ? Loop::Interest::kRead
                                  : what == CURL_POLL_OUT ? Loop::Interest::kWrite
                                                          : Loop::Interest::kReadWrite;
  std::unique_ptr<Loop::Watch>& watch = watches_[socket];
  if (watch != nullptr) {
    watch->SetInterest(interest);
    return;
  }
  watch = loop_.WatchFd(socket, interest, [this, socket](Loop::Ready ready) {
    // Of a failed socket curl learns more by reading and writing ("connection reset") than by being told.
    const bool in = ready.readable || ready.failed;
    const bool out = ready.writable || ready.failed;
    Act(socket, (in ? CURL_CSELECT_IN : 0) | (out ? CURL_CSELECT_OUT : 0));
  });
}

void CurlDriver::Act(curl_socket_t socket, int events) {
  int running = 0;
  api_->multi_socket_action(multi_, socket, events, &running);
  // Collected first: a callback may add and remove transfers, which the message queue would not survive.
  std::vector<std::pair<CURL*, CURLcode>> ended;
  int queued = 0;
  while (const CURLMsg* message = api_->multi_info_read(multi_, &queued)) {
    if (message->msg == CURLMSG_DONE) {
      ended.emplace_back(message->easy_handle, message->data.result);
    }
  }
  for (const auto& [easy, code] : ended) {
    auto node = transfers_.extract(easy);
    if (!node.empty()) {
      api_->multi_remove_handle(multi_, easy);
      node.mapped()(code);
    }
  }
}

}  // namespace supervisor
