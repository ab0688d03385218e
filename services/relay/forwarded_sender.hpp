// What a relay sends of the streams that are handed over to it, on its own publisher's socket:
// events under their own seals, heads, and credentials, soon also for who has just come. Loop
// thread only.
#pragma once

#include "bus/peer/publisher.hpp"
#include "services/relay/held_stream.hpp"

#include <memory>
#include <unordered_map>

namespace mirrorbus::relay {

using HeldStreams = std::unordered_map<proto::Hash, std::unique_ptr<HeldStream>>;  // by their ids

class ForwardedSender {
 public:
  // All of these outlive this.
  ForwardedSender(base::Loop& loop, peer::Publisher& publisher, ForwardedTrust& trust,
                  const HeldStreams& streams, base::Registry& registry);

  // The events of a durable row, as far as a subscriber would take them live.
  void events(const store::JournalRow& row);
  // Its newest credential, if there is a new one, and the heads that may go.
  void changed(HeldStream& stream);

 private:
  void announce(HeldStream& stream);
  void announce_all();
  void greet();

  base::Loop& loop_;
  peer::Publisher& publisher_;
  ForwardedTrust& trust_;
  const HeldStreams& streams_;
  base::Registry& registry_;
  base::Counter& events_;
  base::Counter& heads_;
  bool greet_again_ = false;  // somebody came since the last time
  base::Timer announce_, greet_;
};

}  // namespace mirrorbus::relay
