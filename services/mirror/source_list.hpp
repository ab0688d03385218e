// The places a tree's contents may be had from, and how each has done: which are asked, in which
// order, and which are left alone for a while. No I/O. Any thread: the loop says which there are
// and shows them, the worker tells how they do.
#pragma once

#include "bus/base/clock.hpp"
#include "proto/bytes.hpp"
#include "services/mirror/source_reach.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace mirrorbus::mirror {

class SourceList {
 public:
  // So many distinct bad items, and a place is set aside for kAside; twice as long each further
  // time.
  static constexpr std::size_t kBadItems = 3;
  static constexpr base::Duration kAside = std::chrono::minutes(10);
  static constexpr base::Duration kAsideMost = std::chrono::hours(24);
  // One that failed as a whole is asked last for a while, twice as long each further time.
  static constexpr base::Duration kBackoff = std::chrono::seconds(5);
  static constexpr base::Duration kBackoffMost = std::chrono::minutes(5);
  // One that has only failed for so long is not waited for: what nobody else has is nowhere.
  static constexpr base::Duration kGivenUp = std::chrono::seconds(60);
  static constexpr std::size_t kMost = 64;  // places that are remembered

  explicit SourceList(const base::Clock& clock) : clock_(clock) {}

  struct Named {
    std::string url;
    SourceReach reach;  // by who named it
  };
  // As an operator names them.
  static std::vector<Named> configured(const std::vector<std::string>& urls);

  // Those there are now, in the order to ask them; each once. What is known of one that comes again
  // stays known.
  void set(const std::vector<Named>& named);
  // These, too, behind those there are; one that is there may lead where this says as well.
  void add(const std::vector<Named>& named);
  // Where it may lead, as it was last set.
  SourceReach reach_of(const std::string& url) const;
  // In the order to ask them: those that do well, then those that fail; those that are set aside
  // only where none does well, those that are refused where there are no others.
  std::vector<std::string> order() const;

  void bad(const std::string& url, const proto::Hash& item, const std::string& why);
  void failed(const std::string& url, const std::string& why);
  // It leads where it must not: asked again after a while, as one that failed, but it is not waited
  // for.
  void refused(const std::string& url, const std::string& why);
  void delivered(const std::string& url, std::uint64_t bytes);

  enum class State { Ready, Failing, SetAside, Refused };
  State state_of(const std::string& url) const;
  bool given_up(const std::string& url) const;
  struct Place {
    std::string url;
    SourceReach reach;
    State state = State::Ready;
    std::uint64_t bytes = 0;
    std::uint64_t bad_items = 0;  // ever
    std::string last_error;
  };
  std::vector<Place> places() const;  // those set, in that order
  std::uint64_t times_set_aside() const;

 private:
  struct Record {
    std::uint64_t bytes = 0, bad_items = 0;
    SourceReach reach{};
    bool refused = false;  // that is how it failed last
    std::unordered_set<proto::Hash> bad{};  // since it was last set aside
    base::Duration aside{}, backoff{};
    base::MonoTime aside_until{}, failing_until{};
    std::optional<base::MonoTime> failing_since{};
    std::string last_error{};
  };
  State state(const Record& record, base::MonoTime now) const;
  void set_reach(Record& record, SourceReach reach);
  void forget_some();

  const base::Clock& clock_;
  mutable std::mutex mutex_;
  std::vector<std::string> urls_;
  std::map<std::string, Record> records_;
  std::uint64_t times_set_aside_ = 0;
};

std::string_view to_string(SourceList::State state) noexcept;

}  // namespace mirrorbus::mirror
