// The answers a publisher gives about its own stream: verbs "info", "credential" and "replay", from
// its journal. Blocking (SQLite): called on the journal's reading thread. See proto/serve.md.
#pragma once

#include "bus/store/journal.hpp"
#include "proto/serve.hpp"

#include <atomic>
#include <optional>

namespace mirrorbus::peer {

class StreamVerbs {
 public:
  StreamVerbs(const proto::Hash& stream, store::Journal& journal)
      : stream_(stream), journal_(journal) {}

  // The answer, or nothing if the verb is not one of these.
  std::optional<proto::Answer> answer(const proto::Request& request);
  // Rows that were left out of replays since their events no longer have the root that was signed:
  // the disk has changed them. Any thread.
  std::uint64_t damaged() const { return damaged_; }

 private:
  proto::Answer info(const proto::Request& request);
  proto::Answer credential(const proto::Request& request);
  proto::Answer replay(const proto::Request& request);

  const proto::Hash stream_;
  store::Journal& journal_;
  std::atomic<std::uint64_t> damaged_{0};
};

}  // namespace mirrorbus::peer
