// What a relay believes of the streams that are handed over to it: the same book, budgets and gpg
// as a subscriber's, and what rows and heads must prove. Loop thread only.
#pragma once

#include "bus/peer/credential_book.hpp"
#include "bus/peer/credential_checker.hpp"
#include "bus/peer/source_budget.hpp"

#include <functional>
#include <map>
#include <string>

namespace mirrorbus::relay {

class ForwardedTrust {
 public:
  // The verdict on a credential that was offered, or that is checked again because policy or
  // keyring have changed.
  using OnJudged = std::function<void(const proto::Hash& id,
                                      const proto::Decoded<peer::KnownCredential*>& judged)>;
  ForwardedTrust(base::Loop& loop, const peer::TrustSettings& trust, base::Log log,
                 OnJudged on_judged);

  // Whose budget it is, by what ServeServer calls the sender.
  peer::SourceId source(const std::string& peer);

  // Good or still Checking: then on_judged follows. Or why it is not believed.
  proto::Decoded<peer::KnownCredential*> offer(proto::ByteView sealed, peer::SourceId source);

  struct Row {
    proto::BatchHeader header;
    proto::Hash hash;  // the header's
    std::uint32_t serial = 0;
  };
  // Sealed by this stream's credential, and all its events are in the root.
  proto::Decoded<Row> row(proto::ByteView bytes, const proto::Hash& stream, peer::SourceId source);
  // Sealed, by a credential that is good now.
  proto::Decoded<proto::Head> head(proto::ByteView sealed, const proto::Hash& stream,
                                   peer::SourceId source);

  // Would a subscriber take, live, what this credential sealed at that time? The credential, or
  // nothing.
  peer::KnownCredential* live(const proto::Hash& credential, std::uint64_t time_ns);
  // May the stream say this topic, by the credential's scopes and by policy?
  bool allows(peer::KnownCredential& known, proto::ByteView topic) {
    return !book_.denies(known, topic);
  }
  peer::KnownCredential* find(const proto::Hash& credential) { return book_.find(credential); }

  // Other rules and keys; throws before anything has changed.
  void set_trust(const peer::TrustSettings& trust);

 private:
  void check(const peer::KnownCredential& known);
  void watch();
  proto::Reject disproved(proto::Reject why, peer::SourceId source, const proto::Hash& stream);

  base::Loop& loop_;
  base::Log log_;
  OnJudged on_judged_;
  peer::CredentialBook book_;
  peer::SourceBudget budget_;
  std::map<std::string, peer::SourceId> sources_;
  peer::SourceId next_source_ = 0;
  base::Timer watch_;
  peer::CredentialChecker checker_;
};

}  // namespace mirrorbus::relay
