#include "services/mirror/source_list.hpp"

#include <algorithm>

namespace mirrorbus::mirror {
namespace {

base::Duration longer(base::Duration now, base::Duration first, base::Duration most) {
  return now == base::Duration{} ? first : std::min(now * 2, most);
}

}  // namespace

std::string_view to_string(SourceList::State state) noexcept {
  switch (state) {
    case SourceList::State::Ready: return "ready";
    case SourceList::State::Failing: return "failing";
    case SourceList::State::SetAside: break;
  }
  return "set_aside";
}

SourceList::State SourceList::state(const Record& record, base::MonoTime now) const {
  if (now < record.aside_until) return State::SetAside;
  return now < record.failing_until ? State::Failing : State::Ready;
}

void SourceList::set(std::vector<std::string> urls) {
  const std::lock_guard lock(mutex_);
  urls_.clear();
  for (std::string& url : urls)
    if (!url.empty() && std::ranges::find(urls_, url) == urls_.end())
      urls_.push_back(std::move(url));
  const base::MonoTime now = clock_.now().mono;
  for (const std::string& url : urls_) records_.try_emplace(url);
  // What others name must not grow without bound; a place that has misbehaved stays known longest.
  for (auto it = records_.begin(); it != records_.end() && records_.size() > kMost;)
    it = std::ranges::find(urls_, it->first) == urls_.end() &&
                 state(it->second, now) == State::Ready
             ? records_.erase(it)
             : std::next(it);
}

std::vector<std::string> SourceList::order() const {
  const std::lock_guard lock(mutex_);
  const base::MonoTime now = clock_.now().mono;
  const auto state_of = [&](const std::string& url) { return state(records_.at(url), now); };
  std::vector<std::string> order = urls_;
  std::ranges::stable_sort(order, {}, state_of);
  if (!order.empty() && state_of(order.front()) == State::Ready)
    order.erase(std::ranges::find(order, State::SetAside, state_of), order.end());
  return order;
}

void SourceList::bad(const std::string& url, const proto::Hash& item, const std::string& why) {
  const std::lock_guard lock(mutex_);
  Record& record = records_[url];
  record.last_error = why;
  ++record.bad_items;
  // What was on its way when it was set aside is no further offence.
  if (state(record, clock_.now().mono) == State::SetAside) return;
  record.bad.insert(item);
  if (record.bad.size() < kBadItems) return;
  record.bad.clear();
  record.aside = longer(record.aside, kAside, kAsideMost);
  record.aside_until = clock_.now().mono + record.aside;
  ++times_set_aside_;
}

void SourceList::failed(const std::string& url, const std::string& why) {
  const std::lock_guard lock(mutex_);
  Record& record = records_[url];
  record.last_error = why;
  record.backoff = longer(record.backoff, kBackoff, kBackoffMost);
  const base::MonoTime now = clock_.now().mono;
  record.failing_until = now + record.backoff;
  if (!record.failing_since) record.failing_since = now;
}

void SourceList::delivered(const std::string& url, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  Record& record = records_[url];
  record.bytes += bytes;
  record.backoff = {};
  record.failing_until = {};
  record.failing_since.reset();
}

SourceList::State SourceList::state_of(const std::string& url) const {
  const std::lock_guard lock(mutex_);
  const auto it = records_.find(url);
  return it == records_.end() ? State::Ready : state(it->second, clock_.now().mono);
}

bool SourceList::given_up(const std::string& url) const {
  const std::lock_guard lock(mutex_);
  const auto it = records_.find(url);
  return it != records_.end() && it->second.failing_since &&
         clock_.now().mono - *it->second.failing_since >= kGivenUp;
}

std::vector<SourceList::Place> SourceList::places() const {
  const std::lock_guard lock(mutex_);
  const base::MonoTime now = clock_.now().mono;
  std::vector<Place> places;
  for (const std::string& url : urls_) {
    const Record& r = records_.at(url);
    places.push_back({url, state(r, now), r.bytes, r.bad_items, r.last_error});
  }
  return places;
}

std::uint64_t SourceList::times_set_aside() const {
  const std::lock_guard lock(mutex_);
  return times_set_aside_;
}

}  // namespace mirrorbus::mirror
