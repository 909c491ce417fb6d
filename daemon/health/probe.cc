#include "daemon/health/probe.h"

#include <utility>

namespace supervisor {

void JudgeContent(ProbeTools& tools, const std::shared_ptr<ContentMatcher>& matcher, const std::string& subject,
                  const std::weak_ptr<const void>& wanted,
                  const std::function<void(std::optional<std::string>)>& told) {
  if (!matcher->is_costly()) {
    told(matcher->Failure(subject));
    return;
  }
  const auto judge = [matcher, subject, wanted, told, mailbox = tools.mailbox] {
    mailbox->Post([wanted, told, failure = matcher->Failure(subject)] {
      if (!wanted.expired()) {
        told(failure);
      }
    });
  };
  if (!tools.pool.Run(wanted, judge)) {
    judge();  // no thread to be had: slow is better than wrong
  }
}

}  // namespace supervisor
