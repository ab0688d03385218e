#include "services/mirror/many_sources.hpp"

#include "services/tree/progress.hpp"

#include <algorithm>

#include <fmt/core.h>

namespace mirrorbus::mirror {

// Hands an answer on and notes what came whole. Who does not hold a thing is not the last word.
class ManySources::Passing final : public tree::ContentSink {
 public:
  Passing(tree::ContentSink& to, ManySources& all, From& from, Place& place)
      : to_(to), all_(all), from_(from), place_(place) {}

  void begin(const proto::Hash& hash) override {
    if (place_.dismissed && !all_.asks(place_))
      throw tree::SourceError(place_.url + ": set aside for bad items");
    hash_ = hash;
    from_[hash] = from_start ? &place_ : nullptr;
    to_.begin(hash);
  }
  void write(proto::ByteView bytes) override {
    written += bytes.size();
    to_.write(bytes);
  }
  void end() override {
    came.insert(hash_);
    to_.end();
  }
  void gone(const proto::Hash& hash, const std::string& reason) override {
    lacking[hash] = place_.url + ": " + reason;
  }

  std::unordered_set<proto::Hash> came;
  std::unordered_map<proto::Hash, std::string> lacking;
  std::uint64_t written = 0;
  bool from_start = true;  // the place sends the thing from its first byte on

 private:
  tree::ContentSink& to_;
  ManySources& all_;
  From& from_;
  Place& place_;
  proto::Hash hash_;
};

// Places that failed. Who may only be away for a moment may have what the others lack.
class ManySources::Failures {
 public:
  void add(const std::string& what, bool given_up) {
    last_ = what;
    for_a_moment_ |= !given_up;
  }
  bool none() const { return last_.empty(); }
  // `lacked`: all that did not come is lacking somewhere.
  void check(bool lacked) const {
    if (!none() && (for_a_moment_ || !lacked)) throw tree::SourceError(last_);
  }

 private:
  std::string last_;
  bool for_a_moment_ = false;
};

ManySources::ManySources(SourceList& list, Choose choose, TransferLine* line)
    : list_(list), choose_(std::move(choose)), line_(line) {}

bool ManySources::choose() {
  if (!choose_) return false;
  const std::vector<std::string> urls = choose_(trouble_);
  const std::lock_guard lock(mutex_);
  chosen_ = true;
  const std::size_t before = places_.size();
  for (const std::string& url : urls) {
    if (has(url)) continue;
    for (const auto& place : places_) place->replaced |= place->url == url;
    auto& place = *places_.emplace_back(std::make_unique<Place>());
    place.url = url;
    place.reach = list_.reach_of(url);
    place.source = std::make_unique<HttpSource>(url, place.reach, line_);
    if (cancelled_) place.source->cancel();
  }
  if (places_.size() > before) return true;
  choose_ = nullptr;
  return false;
}

bool ManySources::has(const std::string& url) const {
  return std::ranges::any_of(places_, [&](const auto& place) {
    return place->url == url && !place->replaced && place->reach == list_.reach_of(url);
  });
}

bool ManySources::has_all(const std::vector<std::string>& urls) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::all_of(urls, [&](const std::string& url) { return has(url); });
}

std::vector<ManySources::Place*> ManySources::order() const {
  using State = SourceList::State;
  std::vector<std::pair<State, Place*>> all;
  for (const auto& place : places_)
    if (!place->replaced) all.emplace_back(list_.state_of(place->url), place.get());
  std::ranges::stable_sort(all, {}, &std::pair<State, Place*>::first);
  std::vector<Place*> order;
  for (const auto& [state, place] : all) {
    const State best = all.front().first;
    if (state < State::SetAside || state == best ||
        (state == State::SetAside && best != State::Ready))
      order.push_back(place);
  }
  return order;
}

bool ManySources::asks(const Place& place) const {
  const auto asked = order();
  return std::ranges::find(asked, &place) != asked.end();
}

bool ManySources::spoilt(const proto::Hash& hash) const {
  return std::ranges::any_of(places_, [&](const auto& place) { return place->bad.contains(hash); });
}

std::string ManySources::name() const {
  const std::lock_guard lock(mutex_);
  return places_.empty() ? std::string("no source") : places_.front()->url;
}

std::size_t ManySources::places() const {
  const std::lock_guard lock(mutex_);
  return std::max<std::size_t>(1, places_.size());
}

std::uint64_t ManySources::bytes_received() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& place : places_) sum += place->source->bytes_received();
  return sum;
}

std::string ManySources::mostly() const {
  const std::lock_guard lock(mutex_);
  const auto most = std::ranges::max_element(
      places_, {}, [](const auto& place) { return place->source->bytes_received(); });
  return most == places_.end() ? std::string() : (*most)->url;
}

void ManySources::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (const auto& place : places_) place->source->cancel();
}

std::map<proto::Reject, std::uint64_t> ManySources::complaints() const {
  std::map<proto::Reject, std::uint64_t> sum;
  for (const auto& place : places_)
    for (const auto& [why, count] : place->source->complaints()) sum[why] += count;
  return sum;
}

std::optional<std::string> ManySources::ask(Place& place, const std::function<void()>& fetch) {
  if (cancelled_) throw tree::Cancelled();
  std::optional<std::string> failure;
  try {
    fetch();
  } catch (const ForbiddenSource& error) {
    failure = error.what();
    list_.refused(place.url, *failure);
  } catch (const tree::SourceError& error) {
    if (cancelled_) throw tree::Cancelled();
    failure = error.what();
    list_.failed(place.url, *failure);
  }
  const std::uint64_t now = place.source->bytes_received();
  if (!failure) list_.delivered(place.url, now - std::exchange(place.told, now));
  if (failure && !place.dismissed) trouble_ = *failure;  // else it has been told what for
  return failure;
}

void ManySources::fetch_one(One fetch, const tree::Wanted& thing, std::uint64_t offset,
                            tree::ContentSink& sink, Absent absent) {
  if (!chosen_) choose();
  Failures failures;
  std::string lacking;
  std::unordered_set<Place*> asked;
  do {
    for (Place* place : order()) {
      if (place->bad.contains(thing.hash) || !asked.insert(place).second) continue;
      Passing passing(sink, *this, from_, *place);
      passing.from_start = offset == 0;
      const auto failed =
          ask(*place, [&] { ((*place->source).*fetch)(thing, offset, passing); });
      if (failed)
        failures.add(*failed, absent == Absent::NeedNotCome || list_.given_up(place->url));
      else if (passing.lacking.empty())
        return;
      else
        trouble_ = lacking = passing.lacking.begin()->second;
      offset += passing.written;  // the next one goes on where this one broke off
      if (offset >= thing.size_bytes && passing.written > 0 && places_.size() > 1)
        return sink.end();
    }
    // Who answers that he has not kept a pack may have all else.
  } while ((absent == Absent::MayHaveIt || lacking.empty()) && choose());
  failures.check(!lacking.empty() || spoilt(thing.hash));
  sink.gone(thing.hash, lacking.empty() ? "no source sent it as it was signed" : lacking);
}

void ManySources::fetch_pack(const tree::Wanted& pack, std::uint64_t offset,
                             tree::ContentSink& sink) {
  // There is a way without packs: who is away need not be waited for.
  fetch_one(&HttpSource::fetch_pack, pack, offset, sink, Absent::NeedNotCome);
}

void ManySources::fetch_range(const tree::Wanted& object, std::uint64_t offset,
                              tree::ContentSink& sink) {
  fetch_one(&HttpSource::fetch_range, object, offset, sink, Absent::MayHaveIt);
}

void ManySources::fetch_many(
    std::vector<proto::Hash> hashes, tree::ContentSink& sink,
    const std::function<void(HttpSource&, const std::vector<proto::Hash>&, tree::ContentSink&)>&
        fetch) {
  if (!chosen_) choose();
  before_from_ = std::exchange(lately_from_, {});
  Failures failures;
  std::unordered_map<proto::Hash, std::string> lacking;
  std::unordered_set<Place*> been;
  do {
    for (Place* place : order()) {
      if (!been.insert(place).second) continue;
      std::vector<proto::Hash> asked;
      for (const proto::Hash& hash : hashes)
        if (!place->bad.contains(hash)) asked.push_back(hash);
      if (asked.empty()) continue;
      Passing passing(sink, *this, lately_from_, *place);
      if (const auto failed = ask(*place, [&] { fetch(*place->source, asked, passing); }))
        failures.add(*failed, list_.given_up(place->url));
      std::erase_if(hashes, [&](const proto::Hash& hash) { return passing.came.contains(hash); });
      if (!passing.lacking.empty()) trouble_ = passing.lacking.begin()->second;
      lacking.merge(passing.lacking);
      // The only one there is is not let off for what followed the right answer.
      if (hashes.empty() && (failures.none() || places_.size() > 1)) return;
    }
  } while (!hashes.empty() && choose());
  failures.check(std::ranges::all_of(
      hashes, [&](const proto::Hash& hash) { return lacking.contains(hash) || spoilt(hash); }));
  for (const proto::Hash& hash : hashes) {
    const auto why = lacking.find(hash);
    sink.gone(hash, why == lacking.end() ? "no source sent it as it was signed" : why->second);
  }
}

void ManySources::fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                              tree::ContentSink& sink) {
  fetch_many({ids.begin(), ids.end()}, sink,
             [&](HttpSource& source, const std::vector<proto::Hash>& some,
                 tree::ContentSink& into) { source.fetch_nodes(some, limit_bytes, into); });
}

void ManySources::fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) {
  std::unordered_map<proto::Hash, std::uint64_t> sizes;
  std::vector<proto::Hash> hashes;
  for (const tree::Wanted& object : objects)
    if (sizes.emplace(object.hash, object.size_bytes).second) hashes.push_back(object.hash);
  fetch_many(std::move(hashes), sink,
             [&](HttpSource& source, const std::vector<proto::Hash>& some,
                 tree::ContentSink& into) {
               std::vector<tree::Wanted> wanted;
               for (const proto::Hash& hash : some) wanted.push_back({hash, sizes.at(hash)});
               source.fetch_objects(wanted, into);
             });
}

void ManySources::bad(const proto::Hash& hash, proto::Reject why, const std::string& what) {
  last_complaint_ = fmt::format("{}: {} {}", to_string(why), to_hex(hash), what);
  Place* found = nullptr;
  for (const From* sent : {&lately_from_, &before_from_, &from_})
    if (const auto from = sent->find(hash); from != sent->end()) {
      found = from->second;
      break;
    }
  if (!found) return;  // of several, and nobody knows whose fault
  Place& place = *found;
  last_complaint_ = place.url + ": " + last_complaint_;
  trouble_ = last_complaint_;
  place.bad.insert(hash);
  place.source->bad(hash, why, what);
  list_.bad(place.url, hash, last_complaint_);
  place.dismissed = list_.state_of(place.url) == SourceList::State::SetAside;
}

}  // namespace mirrorbus::mirror
