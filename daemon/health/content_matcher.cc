#include "daemon/health/content_matcher.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>

#include "daemon/health/text.h"

namespace supervisor {
namespace {

// Bounds the compiled program and the automaton's cache; an expression that needs more is refused with a message.
constexpr int64_t kRegexMemory = 2 << 20;
constexpr size_t kCostlyBytes = 64 << 10;

}  // namespace

ContentMatcher::ContentMatcher(const HealthCheckConfig& config, size_t most_bytes)
    : content_(config.expected_content),
      pattern_(config.expected_regex),
      most_bytes_(most_bytes),
      found_(config.expected_content.empty()) {
  if (pattern_.empty()) {
    return;
  }
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kRegexMemory);
  regex_ = std::make_unique<re2::RE2>(pattern_, options);
  if (!regex_->ok()) {
    error_ = fmt::format("expected_regex {}: {}", QuotedExcerpt(pattern_), regex_->error());
  }
}

ContentMatcher::ContentMatcher(ContentMatcher&&) noexcept = default;
ContentMatcher& ContentMatcher::operator=(ContentMatcher&&) noexcept = default;
ContentMatcher::~ContentMatcher() = default;

bool ContentMatcher::is_costly() const { return regex_ != nullptr && data_.size() > kCostlyBytes; }

void ContentMatcher::Append(std::string_view piece) {
  piece = piece.substr(0, most_bytes_ - std::min(most_bytes_, seen_));
  seen_ += piece.size();
  if (is_decided()) {
    return;
  }
  // The substring may begin in what came before.
  const size_t overlap = content_.empty() ? 0 : content_.size() - 1;
  const size_t from = data_.size() - std::min(data_.size(), overlap);
  data_.append(piece);
  found_ = found_ || data_.find(content_, from) != std::string::npos;
  if (regex_ == nullptr) {
    data_.erase(0, found_ ? data_.size() : data_.size() - std::min(data_.size(), overlap));
  }
}

bool ContentMatcher::Matches() const {
  return found_ && (regex_ == nullptr || re2::RE2::PartialMatch(re2::StringPiece(data_.data(), data_.size()), *regex_));
}

std::optional<std::string> ContentMatcher::Failure(std::string_view subject) const {
  if (Matches()) {
    return std::nullopt;
  }
  const std::string within = full() ? fmt::format(" within its first {} bytes", most_bytes_) : "";
  if (!found_) {
    return fmt::format("{} lacks {}{}", subject, QuotedExcerpt(content_), within);
  }
  return fmt::format("{} does not match {}{}", subject, QuotedExcerpt(pattern_), within);
}

}  // namespace supervisor
