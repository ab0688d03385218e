// How a subscriber comes by credentials: those it hears, those it asks for by id, and what gpg says
// of them; and how far it listens to whoever sends what does not prove true.
#pragma once

#include "bus/peer/subscription.hpp"
#include "proto/event.hpp"

#include <unordered_map>

namespace mirrorbus::peer {

class CredentialIntake {
 public:
  using Refusal = std::optional<proto::Reject>;

  CredentialIntake(trust::Policy policy, Subscription& subscription)
      : subscription_(subscription), book_(std::move(policy)) {}

  CredentialBook& book() { return book_; }
  const CredentialBook& book() const { return book_; }

  Refusal offer(proto::ByteView sealed, CredentialBook::Came came, SourceId source, base::Now now);
  proto::Decoded<KnownCredential*> judged(const proto::Hash& credential,
                                          const proto::Decoded<CredentialVerdict>& verdict,
                                          base::Now now);
  // Policy or keyring have changed.
  void renew(trust::Policy policy);

  // By id, from this stream's sources or (zero) anybody's.
  void fetch(const proto::Hash& id, const proto::Hash& stream, base::Now now);
  // Only what was asked by fetch() is taken.
  void answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer,
                SourceId source, base::Now now);

  // Something claimed to be this stream's and is not: counted against whoever sent it.
  proto::Reject disproved(proto::Reject why, SourceId source, const proto::Hash& stream,
                          base::Now now);
  // Is the stream not listened to from there for now?
  bool cut(SourceId source, const proto::Hash& stream, base::Now now) const {
    return budget_.cut(source, stream, now.mono);
  }

  // A head that the credential it names has sealed.
  proto::Decoded<proto::Head> verified_head(const proto::ControlFrame& frame, SourceId source,
                                            base::Now now);

 private:
  Subscription& subscription_;
  CredentialBook book_;
  SourceBudget budget_;
  std::unordered_map<proto::Hash, std::uint64_t> fetching_;  // by id: the question
  std::unordered_map<proto::Hash, base::MonoTime> fetched_;  // when it was last asked for
};

}  // namespace mirrorbus::peer
