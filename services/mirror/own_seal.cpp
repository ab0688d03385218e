#include "services/mirror/own_seal.hpp"

#include "bus/peer/credential_book.hpp"
#include "bus/trust/own_key.hpp"
#include "proto/sealed_event.hpp"
#include "proto/tree_update.hpp"

namespace mirrorbus::mirror {

proto::Decoded<proto::VersionRecord> OwnSeal::check(proto::ByteView bytes,
                                                    proto::ByteView credential,
                                                    const std::string& topic,
                                                    base::Now now) const {
  const auto announced = proto::decode_sealed_event(bytes);
  if (!announced) return proto::refuse(announced.error());
  const auto& [frame, header, event] = *announced;
  if (frame.topic != topic) return proto::refuse(proto::Reject::BadTopic);
  auto update = proto::decode_update(event.body);
  if (!update) return proto::refuse(update.error());
  if (credential.empty()) return proto::refuse(proto::Reject::UnknownCredential);
  if (name_.scheme == proto::Scheme::None) return proto::refuse(proto::Reject::SchemeMismatch);

  // A book of one rule: our own key, and what it may say by its credential's scopes.
  trust::Rule rule;
  rule.topics.push_back(*proto::TopicPattern::parse(topic));
  rule.keys.push_back({name_.scheme, name_.fingerprint});
  peer::CredentialBook book(trust::Policy({rule}));
  peer::SourceBudget budget;
  const auto known =
      book.offer(credential, peer::CredentialBook::Came::Asked, peer::SourceId{}, budget, now);
  if (!known) return proto::refuse(known.error());
  const peer::KnownCredential& offered = **known;
  if (offered.credential.stream != name_) return proto::refuse(proto::Reject::WrongStream);
  const proto::Hash id = offered.id;
  if (id != header.credential) return proto::refuse(proto::Reject::UnknownCredential);
  const auto verified =
      trust::verify_own(identity_, offered.sealed.document, offered.sealed.signature);
  const auto verdict =
      verified ? proto::Decoded<peer::CredentialVerdict>(
                     peer::CredentialVerdict{verified->fingerprint, verified->expires_s})
               : proto::refuse(verified.error());
  if (const auto good = book.judge(id, verdict); !good)
    return proto::refuse(good.error());
  const auto sealed =
      book.check_seal(id, header.time_ns, frame.header(), frame.seal(), false, now);
  if (!sealed) return proto::refuse(sealed.error());
  if (const auto in_batch = proto::check_in_batch(*announced); !in_batch)
    return proto::refuse(in_batch.error());
  if (const auto why = book.denies(**sealed, frame.topic)) return proto::refuse(*why);
  return std::move(update->record);
}

std::optional<proto::VersionRecord> claimed_version(proto::ByteView bytes,
                                                    const std::string& topic) {
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame || frame->topic != topic) return std::nullopt;
  const auto event = proto::decode_event(frame->event);
  if (!event) return std::nullopt;
  auto update = proto::decode_update(event->body);
  if (!update) return std::nullopt;
  return std::move(update->record);
}

}  // namespace mirrorbus::mirror
