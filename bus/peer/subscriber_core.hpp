// The subscriber's protocol, without I/O: from frames, answers, verdicts and the time to events in
// order, each exactly once, and to a named gap for whatever cannot be had.
//
// Loop thread only. One literal prefix per subscription: the longest that all patterns share; what
// is under it but matches no pattern is ordered and then filtered. Rules: proto/batch.md, event.md,
// head.md, serve.md.
//
// Here frames are judged as they come in. Credentials come by CredentialIntake, EventOrder moves
// positions, CatchUp asks for what is missing.
#pragma once

#include "bus/peer/catch_up.hpp"
#include "bus/store/cursor.hpp"

#include <memory>
#include <unordered_map>

namespace mirrorbus::peer {

class SubscriberCore {
 public:
  SubscriberCore(SubscriberOptions options, trust::Policy policy, store::Cursors cursors,
                 SubscriberActions& actions);

  // What to subscribe to: everything under this whole-segment prefix, and control frames.
  const std::string& prefix() const { return subscription_.prefix; }

  // A frame from a PUB socket. The reason if it was refused; refusals are counted here.
  std::optional<proto::Reject> frame(proto::ByteView bytes, SourceId source, base::Now now);
  // The reason if the credential is not believed.
  std::optional<proto::Reject> judged(const proto::Hash& credential,
                                      const proto::Decoded<CredentialVerdict>& verdict,
                                      base::Now now);
  // The answer to a question, or why there is none, and who was asked.
  void answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer,
                SourceId source, base::Now now);
  // At least every 100 ms or so.
  void tick(base::Now now);

  // An event by itself, as somebody handed it on: who sealed it and what it says, if the seal is
  // good and the policy allows it. Moves no position. `stream`: whose it has to be, if known.
  // UnknownCredential: it is being fetched (if `stream` is known), or its signature checked; try
  // again.
  struct Inspected {
    proto::Hash stream;
    proto::StreamName name;
    std::uint64_t epoch = 0;
    std::uint64_t seq = 0;
    std::string topic;
    proto::Bytes body;
  };
  proto::Decoded<Inspected> inspect(proto::ByteView frame,
                                    const std::optional<proto::Hash>& stream, base::Now now);
  // A credential that somebody handed on because we asked. The reason if it is not taken.
  std::optional<proto::Reject> offer(proto::ByteView sealed, SourceId source, base::Now now);

  // Policy or keyring have changed.
  void set_policy(trust::Policy policy) { intake_.renew(std::move(policy)); }

  store::Cursors cursors() const;
  const SubscriberCounts& counts() const { return subscription_.counts; }
  std::vector<StreamInfo> streams(base::Now now) const;
  const KnownCredential* credential(const proto::Hash& id) const {
    return intake_.book().find(id);
  }
  // The endpoints a stream's newest good credential advertises.
  const proto::Credential* current_credential(const proto::Hash& stream) const;

 private:
  using Refusal = std::optional<proto::Reject>;

  Refusal control(proto::ByteView bytes, SourceId source, base::Now now);
  Refusal head(const proto::Head& head, base::Now now);
  void follow(SubscribedStream& stream, const proto::Head& head, base::Now now);
  void join(SubscribedStream& stream, const proto::Head& head, base::Now now);
  Refusal event(proto::ByteView bytes, SourceId source, base::Now now);
  proto::Decoded<SubscribedStream*> open_batch(const proto::EventFrame& frame, SourceId source,
                                               base::Now now);
  Refusal new_header(SubscribedStream& stream, KnownCredential& known,
                     const proto::EventFrame& frame, const proto::BatchHeader& header,
                     SourceId source, base::Now now);
  void take(SubscribedStream& stream, const proto::EventFrame& frame,
            const proto::EventView& event, proto::ByteView bytes, base::Now now);
  void installed(KnownCredential& known, base::Now now);
  SubscribedStream* add_stream(const KnownCredential& known);
  SubscribedStream* find_stream(const proto::Hash& id) const;

  Subscription subscription_;
  CredentialIntake intake_;
  EventOrder order_;
  CatchUp catch_up_;
  store::Cursors resume_;
  std::unordered_map<proto::Hash, std::unique_ptr<SubscribedStream>> streams_;
  // The stream of the last event: nearly always that of the next.
  SubscribedStream* last_stream_ = nullptr;
};

}  // namespace mirrorbus::peer
