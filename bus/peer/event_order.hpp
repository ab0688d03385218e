// Moves the positions of a subscriber's streams: by events in order, each exactly once, and by gaps
// that name what is lost.
#pragma once

#include "bus/peer/subscribed_stream.hpp"
#include "bus/peer/subscription.hpp"

namespace mirrorbus::peer {

// All of these streams have been joined.
class EventOrder {
 public:
  EventOrder(Subscription& subscription, CredentialBook& book)
      : subscription_(subscription), book_(book) {}

  // The next event under the prefix, said by `known`.
  void consume(SubscribedStream& stream, std::uint64_t seq, std::uint64_t time_ns,
               KnownCredential& known, proto::ByteView topic, proto::ByteView body,
               proto::ByteView frame = {});
  // There is an event of ours with this seq, somebody's signed word for it. A source that has denied
  // it is believed no more, and counted.
  void learn_of(SubscribedStream& stream, std::uint64_t seq);
  // What was held back and is next now.
  void drain(SubscribedStream& stream);
  // Everything up to `to` is lost.
  void give_up(SubscribedStream& stream, std::uint64_t to, GapReason reason);

  // `first`: the first credential of an epoch that follows the stream's own.
  void enter_epoch(SubscribedStream& stream, const proto::Credential& first);
  // Nobody can tell how the epochs between went: what they held is lost to us, and named as far as
  // the newest credential's pin knows it.
  void skip_unknown_epochs(SubscribedStream& stream);

 private:
  // Up to `to`, or nobody knows how far.
  void lost(const SubscribedStream& stream, std::uint64_t epoch, std::uint64_t from,
            std::optional<std::uint64_t> to, GapReason reason);

  Subscription& subscription_;
  CredentialBook& book_;
};

}  // namespace mirrorbus::peer
