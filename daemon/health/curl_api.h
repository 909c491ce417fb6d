#pragma once

#include <curl/curl.h>

#include "absl/status/statusor.h"

namespace supervisor {

// libcurl, loaded when it is first needed. Linking it costs every daemon, also one that makes no HTTP request, some
// 4 MiB of PSS and 4 ms of start-up for the thirty libraries that come with it (measured on Debian 12); so our programs
// include its header and nothing more. Call it as `api->easy_init()`.
struct CurlApi {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_version) version = nullptr;
  decltype(&curl_easy_init) easy_init = nullptr;
  decltype(&curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&curl_easy_reset) easy_reset = nullptr;
  decltype(&curl_easy_setopt) easy_setopt = nullptr;
  decltype(&curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&curl_easy_perform) easy_perform = nullptr;
  decltype(&curl_easy_strerror) easy_strerror = nullptr;
  decltype(&curl_slist_append) slist_append = nullptr;
  decltype(&curl_slist_free_all) slist_free_all = nullptr;
  decltype(&curl_free) free = nullptr;
  decltype(&curl_url) url = nullptr;
  decltype(&curl_url_cleanup) url_cleanup = nullptr;
  decltype(&curl_url_get) url_get = nullptr;
  decltype(&curl_url_set) url_set = nullptr;
  decltype(&curl_url_strerror) url_strerror = nullptr;
  decltype(&curl_multi_init) multi_init = nullptr;
  decltype(&curl_multi_cleanup) multi_cleanup = nullptr;
  decltype(&curl_multi_setopt) multi_setopt = nullptr;
  decltype(&curl_multi_add_handle) multi_add_handle = nullptr;
  decltype(&curl_multi_remove_handle) multi_remove_handle = nullptr;
  decltype(&curl_multi_socket_action) multi_socket_action = nullptr;
  decltype(&curl_multi_info_read) multi_info_read = nullptr;
  decltype(&curl_multi_perform) multi_perform = nullptr;
  decltype(&curl_multi_poll) multi_poll = nullptr;
  decltype(&curl_multi_wakeup) multi_wakeup = nullptr;
  decltype(&curl_multi_strerror) multi_strerror = nullptr;
};

// Loads and initialises libcurl at the first call; later ones return the same at once. It is never unloaded. Any
// thread. Failure names the package to install, and is not remembered: once it is installed the next call succeeds.
absl::StatusOr<const CurlApi*> LoadCurl();

}  // namespace supervisor
