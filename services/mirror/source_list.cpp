#include "services/mirror/source_list.hpp"

#include <algorithm>
#include <utility>

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
    case SourceList::State::Refused: return "refused";
    case SourceList::State::SetAside: break;
  }
  return "set_aside";
}

SourceList::State SourceList::state(const Record& record, base::MonoTime now) const {
  if (now < record.aside_until) return State::SetAside;
  if (now >= record.failing_until) return State::Ready;
  return record.refused ? State::Refused : State::Failing;
}

std::vector<SourceList::Named> SourceList::configured(const std::vector<std::string>& urls) {
  std::vector<Named> named;
  for (const std::string& url : urls) named.push_back({url, SourceReach::anywhere()});
  return named;
}

void SourceList::set(const std::vector<Named>& named) {
  const std::lock_guard lock(mutex_);
  urls_.clear();
  std::map<std::string, SourceReach> reaches;
  for (const auto& [url, reach] : named) {
    if (url.empty()) continue;
    if (std::ranges::find(urls_, url) == urls_.end()) urls_.push_back(url);
    reaches[url] |= reach;
  }
  for (auto& [url, reach] : reaches) set_reach(records_[url], std::move(reach));
  forget_some();
}

void SourceList::add(const std::vector<Named>& named) {
  const std::lock_guard lock(mutex_);
  for (const auto& [url, reach] : named) {
    if (url.empty()) continue;
    Record& record = records_[url];
    SourceReach all = reach;
    if (std::ranges::find(urls_, url) == urls_.end())
      urls_.push_back(url);
    else
      all |= record.reach;
    set_reach(record, std::move(all));
  }
  forget_some();
}

void SourceList::set_reach(Record& record, SourceReach reach) {
  if (record.reach == reach) return;
  record.reach = std::move(reach);
  if (std::exchange(record.refused, false)) record.failing_until = {};  // by another's word
}

void SourceList::forget_some() {
  const base::MonoTime now = clock_.now().mono;
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
  if (order.empty()) return order;
  const State best = state_of(order.front());
  const State left = best == State::Ready ? State::SetAside : State::Refused;
  if (best != State::Refused)
    order.erase(std::ranges::lower_bound(order, left, {}, state_of), order.end());
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

SourceReach SourceList::reach_of(const std::string& url) const {
  const std::lock_guard lock(mutex_);
  const auto it = records_.find(url);
  return it == records_.end() ? SourceReach() : it->second.reach;
}

void SourceList::refused(const std::string& url, const std::string& why) {
  failed(url, why);
  const std::lock_guard lock(mutex_);
  records_[url].refused = true;
}

void SourceList::failed(const std::string& url, const std::string& why) {
  const std::lock_guard lock(mutex_);
  Record& record = records_[url];
  record.last_error = why;
  record.refused = false;
  record.backoff = longer(record.backoff, kBackoff, kBackoffMost);
  const base::MonoTime now = clock_.now().mono;
  record.failing_until = now + record.backoff;
  if (!record.failing_since) record.failing_since = now;
}

void SourceList::delivered(const std::string& url, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  Record& record = records_[url];
  record.bytes += bytes;
  record.refused = false;
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
  if (it == records_.end()) return false;
  const Record& record = it->second;
  return record.refused || (record.failing_since &&
                            clock_.now().mono - *record.failing_since >= kGivenUp);
}

std::vector<SourceList::Place> SourceList::places() const {
  const std::lock_guard lock(mutex_);
  const base::MonoTime now = clock_.now().mono;
  std::vector<Place> places;
  for (const std::string& url : urls_) {
    const Record& r = records_.at(url);
    places.push_back({url, r.reach, state(r, now), r.bytes, r.bad_items, r.last_error});
  }
  return places;
}

std::uint64_t SourceList::times_set_aside() const {
  const std::lock_guard lock(mutex_);
  return times_set_aside_;
}

}  // namespace mirrorbus::mirror
