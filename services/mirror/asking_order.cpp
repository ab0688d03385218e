#include "services/mirror/asking_order.hpp"

namespace mirrorbus::mirror {

std::string AskingOrder::next(const std::vector<std::string>& who, base::MonoTime now) const {
  std::string last;
  for (const std::string& endpoint : who) {
    if (done_.contains(endpoint) || waiting_.contains(endpoint)) continue;
    const auto it = misled_.find(endpoint);
    if (it == misled_.end() || now - it->second > kMisled) return endpoint;
    if (last.empty()) last = endpoint;
  }
  return last;
}

void AskingOrder::misled(const std::string& endpoint, base::MonoTime now) {
  done_.insert(endpoint);
  ask_late(endpoint, now);
}

void AskingOrder::ask_late(const std::string& endpoint, base::MonoTime now) {
  std::erase_if(misled_, [&](const auto& each) { return now - each.second > kMisled; });
  misled_[endpoint] = now;
}

AskingOrder::Then AskingOrder::waits(const std::string& endpoint,
                                     const std::vector<std::string>& who, base::MonoTime now) {
  if (once_.insert(endpoint).second) return Then::AskAgain;
  waiting_.insert(endpoint);
  return next_of(who, now);
}

AskingOrder::Then AskingOrder::puts_off(const std::string& endpoint,
                                        const std::vector<std::string>& who, base::MonoTime now) {
  const auto since = put_off_.emplace(endpoint, now).first;
  if (now - since->second < kPatience) return Then::AskAgain;
  put_off_.erase(since);
  ask_late(endpoint, now);
  waiting_.insert(endpoint);
  return next_of(who, now);
}

AskingOrder::Then AskingOrder::next_of(const std::vector<std::string>& who, base::MonoTime now) {
  if (!next(who, now).empty()) return Then::AskNext;
  waiting_.clear();
  return Then::NobodyElse;
}

void AskingOrder::new_try() {
  done_.clear();
  once_.clear();
  put_off_.clear();
  waiting_.clear();
}

}  // namespace mirrorbus::mirror
