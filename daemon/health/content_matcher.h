#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/config/config.h"

namespace re2 {
class RE2;
}

namespace supervisor {

// Looks for expected_content (a substring) and expected_regex (RE2: linear time) in what arrives piece by piece: a
// body, a banner, a script's output. Keeps no more than it needs: nothing when nothing is expected, a few bytes for a
// substring, up to `most_bytes` for a regular expression. What comes after the first `most_bytes` is not looked at.
//
// One thread at a time; may be moved to another, as matching 1 MiB against a nasty expression takes a while.
class ContentMatcher {
 public:
  ContentMatcher(const HealthCheckConfig& config, size_t most_bytes);
  ContentMatcher(ContentMatcher&&) noexcept;
  ContentMatcher& operator=(ContentMatcher&&) noexcept;
  ContentMatcher(const ContentMatcher&) = delete;
  ContentMatcher& operator=(const ContentMatcher&) = delete;
  ~ContentMatcher();

  // What is wrong with the regular expression; empty: nothing.
  const std::string& error() const { return error_; }
  bool expects_anything() const { return !content_.empty() || regex_ != nullptr; }
  // Matching costs enough that a loop thread should not do it.
  bool is_costly() const;

  void Append(std::string_view piece);

  // As many bytes came as are looked at.
  bool full() const { return seen_ >= most_bytes_; }
  size_t seen() const { return seen_; }
  // More bytes cannot change that it matches. Never with a regular expression, whose `$` they could.
  bool is_decided() const { return found_ && regex_ == nullptr; }
  // It matches what has come so far.
  bool Matches() const;
  // Nothing when it matches, else `body lacks "ok"`, `body does not match "^ok"`.
  std::optional<std::string> Failure(std::string_view subject) const;

 private:
  std::string content_;
  std::string pattern_;
  std::unique_ptr<re2::RE2> regex_;
  std::string error_;
  size_t most_bytes_;
  size_t seen_ = 0;
  bool found_;        // the substring was seen, or none is asked for
  std::string data_;  // all that was seen for a regular expression, else the last bytes
};

}  // namespace supervisor
