#include "daemon/health/killer_thread.h"

#include <system_error>
#include <utility>

namespace supervisor {

KillerThread::KillerThread(Loop& loop, std::shared_ptr<LoopMailbox> mailbox)
    : owner_loop_(loop), mailbox_(std::move(mailbox)) {}

KillerThread::~KillerThread() {
  if (thread_.joinable()) {
    loop_->Post([this] {
      killer_.reset();  // waits
      loop_->Stop();
    });
    thread_.join();
  }
}

bool KillerThread::StartThread() {
  if (thread_.joinable()) {
    return true;
  }
  loop_ = std::make_unique<Loop>();
  killer_ = std::make_unique<TreeKiller>(*loop_);
  try {
    // It inherits the owner's signal mask, which blocks all.
    thread_ = std::thread([this] { loop_->Run(); });
  } catch (const std::system_error&) {  // EAGAIN
    killer_.reset();
    loop_.reset();
  }
  return thread_.joinable();
}

void KillerThread::Kill(ScriptTree tree, const TreeKiller::Gone& gone) {
  if (!StartThread()) {
    if (!inline_) {
      inline_.emplace(owner_loop_);
    }
    inline_->Kill(std::move(tree), gone);
    return;
  }
  // A posted callback must be copyable, and a tree is not.
  auto held = std::make_shared<ScriptTree>(std::move(tree));
  TreeKiller::Gone tell;
  if (gone) {
    tell = [mailbox = mailbox_, gone](bool all_gone) { mailbox->Post([gone, all_gone] { gone(all_gone); }); };
  }
  loop_->Post([this, held, tell = std::move(tell)] { killer_->Kill(std::move(*held), tell); });
}

}  // namespace supervisor
