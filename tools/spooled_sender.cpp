#include "tools/spooled_sender.hpp"

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;

constexpr int kTimeoutsBetweenTries = 4;
constexpr std::size_t kBatchEvents = 256, kBatchBytes = 1 << 20;
constexpr base::Duration kLook = 50ms;  // at answers

}  // namespace

SpooledSender::SpooledSender(RelaySender::Options options, EventSpool* spool, Handlers handlers)
    : options_(std::move(options)), spool_(spool), handlers_(std::move(handlers)) {
  if (!spool_) direct_.emplace(options_, handlers_.on_acknowledged);
}

void SpooledSender::relay_is_away(const RelayAway& why) {
  away_ = why.what();
  // Events that come meanwhile are kept at once, most of the time.
  try_again_ = Clock::now() + kTimeoutsBetweenTries * options_.timeout;
}

// All of the batch, and sends it on if nobody says that it must wait.
void SpooledSender::put() {
  if (batch_.empty()) return;
  spool_->put(batch_);
  for (const proto::Submission& submission : batch_) handlers_.on_kept(submission);
  batch_.clear();
  batch_bytes_ = 0;
  if (Clock::now() >= try_again_ && flush()) direct_.emplace(options_, handlers_.on_acknowledged);
}

template <class Do>
void SpooledSender::directly(Do what) {
  try {
    what();
  } catch (const RelayAway& why) {
    if (!spool_) throw;
    batch_ = direct_->pending();
    direct_.reset();
    relay_is_away(why);
    put();
  }
}

void SpooledSender::send(const proto::Submission& submission) {
  if (!direct_ && batch_.empty() && away_.empty() && spool_->count() == 0)
    direct_.emplace(options_, handlers_.on_acknowledged);
  if (direct_) directly([&] { direct_->reserve(); });
  if (direct_) return direct_->send(submission);
  batch_.push_back(submission);
  batch_bytes_ += submission.body.size();
  if (batch_.size() >= kBatchEvents || batch_bytes_ >= kBatchBytes) put();
}

void SpooledSender::attend() {
  if (direct_)
    directly([&] { direct_->attend(base::Duration::zero()); });
  else
    put();
}

base::Duration SpooledSender::patience() const {
  if (!batch_.empty()) return base::Duration::zero();
  return direct_ && !direct_->idle() ? kLook : base::Duration(-1);
}

void SpooledSender::finish() {
  put();
  if (direct_) directly([&] { direct_->finish(); });
  // Whoever was sending what was before us may have been done before we put ours in.
  if (!direct_ && away_.empty()) flush();
}

bool SpooledSender::flush() {
  if (!spool_ || spool_->count() == 0) return true;
  auto emptying = spool_->try_emptying();
  if (!emptying) return false;
  try {
    send_kept(*emptying);
    away_.clear();
    return true;
  } catch (const RelayAway& why) {
    relay_is_away(why);
    return false;
  }
}

void SpooledSender::send_kept(EventSpool::Emptying& spool) {
  RelaySender::Options one_by_one = options_;
  one_by_one.window = 1;
  std::string refused;
  RelaySender sender(one_by_one, handlers_.on_acknowledged,
                     [&](const proto::Submission&, const std::string& why) { refused = why; });
  while (const auto file = spool.first()) {
    refused.clear();
    if (const auto submissions = spool.read(*file)) {
      for (const proto::Submission& submission : *submissions) sender.send(submission);
      sender.finish();
    } else {
      refused = fmt::format("it cannot be read: {}", to_string(submissions.error()));
    }
    if (refused.empty()) {
      spool.remove(*file);
    } else {
      spool.set_aside(*file);
      handlers_.on_set_aside(fmt::format("{}/{}: {}", spool_->directory(), *file, refused));
    }
  }
}

}  // namespace mirrorbus::tools
