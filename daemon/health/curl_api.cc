#include "daemon/health/curl_api.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <mutex>
#include <string>

namespace supervisor {
namespace {

void* OpenLibrary(std::string& error) {
  // The second is Debian's GnuTLS flavour: the same functions.
  for (const char* name : {"libcurl.so.4", "libcurl-gnutls.so.4"}) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL); library != nullptr) {
      return library;
    }
    const char* reason = dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps it per thread
    if (reason != nullptr && error.empty()) {
      error = reason;
    }
  }
  return nullptr;
}

template <typename Function>
void Find(void* library, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr && missing.empty()) {
    missing = name;
  }
}

// Empty when all were found, else the first that is missing.
std::string FindFunctions(void* library, CurlApi& api) {
  std::string missing;
  Find(library, "curl_global_init", api.global_init, missing);
  Find(library, "curl_version", api.version, missing);
  Find(library, "curl_easy_init", api.easy_init, missing);
  Find(library, "curl_easy_cleanup", api.easy_cleanup, missing);
  Find(library, "curl_easy_reset", api.easy_reset, missing);
  Find(library, "curl_easy_setopt", api.easy_setopt, missing);
  Find(library, "curl_easy_getinfo", api.easy_getinfo, missing);
  Find(library, "curl_easy_perform", api.easy_perform, missing);
  Find(library, "curl_easy_strerror", api.easy_strerror, missing);
  Find(library, "curl_slist_append", api.slist_append, missing);
  Find(library, "curl_slist_free_all", api.slist_free_all, missing);
  Find(library, "curl_free", api.free, missing);
  Find(library, "curl_url", api.url, missing);
  Find(library, "curl_url_cleanup", api.url_cleanup, missing);
  Find(library, "curl_url_get", api.url_get, missing);
  Find(library, "curl_url_set", api.url_set, missing);
  Find(library, "curl_url_strerror", api.url_strerror, missing);
  Find(library, "curl_multi_init", api.multi_init, missing);
  Find(library, "curl_multi_cleanup", api.multi_cleanup, missing);
  Find(library, "curl_multi_setopt", api.multi_setopt, missing);
  Find(library, "curl_multi_add_handle", api.multi_add_handle, missing);
  Find(library, "curl_multi_remove_handle", api.multi_remove_handle, missing);
  Find(library, "curl_multi_socket_action", api.multi_socket_action, missing);
  Find(library, "curl_multi_info_read", api.multi_info_read, missing);
  Find(library, "curl_multi_perform", api.multi_perform, missing);
  Find(library, "curl_multi_poll", api.multi_poll, missing);
  Find(library, "curl_multi_wakeup", api.multi_wakeup, missing);
  Find(library, "curl_multi_strerror", api.multi_strerror, missing);
  return missing;
}

}  // namespace

absl::StatusOr<const CurlApi*> LoadCurl() {
  static std::mutex mutex;
  static const CurlApi* loaded = nullptr;
  const std::lock_guard lock(mutex);
  if (loaded != nullptr) {
    return loaded;
  }
  std::string error;
  void* library = OpenLibrary(error);
  if (library == nullptr) {
    return absl::FailedPreconditionError(
        fmt::format("cannot load libcurl, which HTTP needs: {} (install the package libcurl4)", error));
  }
  static CurlApi api;
  if (const std::string missing = FindFunctions(library, api); !missing.empty()) {
    dlclose(library);
    return absl::FailedPreconditionError(
        fmt::format("libcurl is too old: it has no {} (install the package libcurl4, version 7.85 or newer)", missing));
  }
  if (const CURLcode code = api.global_init(CURL_GLOBAL_DEFAULT); code != CURLE_OK) {
    return absl::InternalError(fmt::format("libcurl does not start: {}", api.easy_strerror(code)));
  }
  loaded = &api;
  return loaded;
}

}  // namespace supervisor
