// A tree's content from several places as one source: each item from the first that has it, and
// what one place lacks, spoils or breaks off from the next, within the same sync. Worker thread,
// but for cancel() and bytes_received().
#pragma once

#include "services/mirror/http_source.hpp"
#include "services/mirror/source_list.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

namespace mirrorbus::mirror {

class ManySources final : public tree::ContentSource {
 public:
  // Where to ask, in order: called when the first content is wanted, and again when none of these
  // has sent a thing, until there is no place among them that had not been there. `trouble`: what
  // the last of them failed with, if any did, for people. May block; throws tree::SourceError if
  // there is no place.
  using Choose = std::move_only_function<std::vector<std::string>(const std::string& trouble)>;
  // `line`: of the tree, or null.
  ManySources(SourceList& list, Choose choose, TransferLine* line = nullptr);

  std::string name() const override;
  std::size_t places() const override;
  void fetch_pack(const tree::Wanted& pack, std::uint64_t offset, tree::ContentSink& sink) override;
  void fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                   tree::ContentSink& sink) override;
  void fetch_objects(std::span<const tree::Wanted> objects, tree::ContentSink& sink) override;
  void fetch_range(const tree::Wanted& object, std::uint64_t offset,
                   tree::ContentSink& sink) override;
  void bad(const proto::Hash& hash, proto::Reject why, const std::string& what) override;
  std::uint64_t bytes_received() const override;

  void cancel();  // any thread, for good
  // All of these are its places, and may lead where its list says now. Any thread.
  bool has_all(const std::vector<std::string>& urls) const;

  // When the work is done.
  std::map<proto::Reject, std::uint64_t> complaints() const;
  const std::string& last_complaint() const { return last_complaint_; }
  // Whoever sent the most; for people.
  std::string mostly() const;

 private:
  struct Place {
    std::string url;
    SourceReach reach;
    std::unique_ptr<HttpSource> source;
    std::unordered_set<proto::Hash> bad;  // not asked for these again
    std::uint64_t told = 0;               // bytes that the list knows of
    bool dismissed = false;               // set aside in this work
    bool replaced = false;                // by one of the same URL that may lead elsewhere
  };
  class Passing;
  class Failures;

  bool choose();  // whether there are more places now
  bool has(const std::string& url) const;
  // Those to ask for a thing now: as they were chosen, but those that fail last.
  std::vector<Place*> order() const;
  bool asks(const Place& place) const;  // it is not set aside, or there is none that does well
  bool spoilt(const proto::Hash& hash) const;  // some place has sent another thing for it
  using One = void (HttpSource::*)(const tree::Wanted&, std::uint64_t, tree::ContentSink&);
  enum class Absent { MayHaveIt, NeedNotCome };  // a place that cannot be asked just now
  void fetch_one(One fetch, const tree::Wanted& thing, std::uint64_t offset,
                 tree::ContentSink& sink, Absent absent);
  void fetch_many(std::vector<proto::Hash> hashes, tree::ContentSink& sink,
                  const std::function<void(HttpSource&, const std::vector<proto::Hash>&,
                                           tree::ContentSink&)>& fetch);
  // Runs `fetch` on the place; what it failed with, if it did.
  std::optional<std::string> ask(Place& place, const std::function<void()>& fetch);

  SourceList& list_;
  Choose choose_;
  TransferLine* const line_;
  std::atomic<bool> cancelled_{false};
  bool chosen_ = false;       // once, at least
  mutable std::mutex mutex_;  // which places there are; they stay once they are there
  std::vector<std::unique_ptr<Place>> places_;
  // Who sent a thing, all of it, as last asked for: packs and large contents, and of the rest, which
  // may be millions, the last two answers. Nobody finds fault later.
  using From = std::unordered_map<proto::Hash, Place*>;
  From from_, lately_from_, before_from_;
  std::string last_complaint_;
  std::string trouble_;  // what a place failed with, lacks or has spoilt, the last
};

}  // namespace mirrorbus::mirror
