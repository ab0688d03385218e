// The answers a publisher gives about its own stream: verbs "info", "credential" and "replay", from
// its journal. Blocking (SQLite): called on the journal's reading thread. See proto/serve.md.
#pragma once

#include "bus/store/journal.hpp"
#include "proto/serve.hpp"

#include <optional>

namespace mirrorbus::peer {

class StreamVerbs {
 public:
  StreamVerbs(const proto::Hash& stream, store::Journal& journal)
      : stream_(stream), journal_(journal) {}

  // The answer, or nothing if the verb is not one of these.
  std::optional<proto::Answer> answer(const proto::Request& request);

 private:
  proto::Answer info(const proto::Request& request);
  proto::Answer credential(const proto::Request& request);
  proto::Answer replay(const proto::Request& request);

  const proto::Hash stream_;
  store::Journal& journal_;
};

}  // namespace mirrorbus::peer
