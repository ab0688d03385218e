#include "services/relay/forwarded_trust.hpp"

#include "bus/peer/subscriber.hpp"

namespace mirrorbus::relay {
namespace {

using proto::Reject;
using State = peer::KnownCredential::State;

constexpr base::Duration kWatch = std::chrono::milliseconds(500);
constexpr std::size_t kMaxSources = 4096;

}  // namespace

ForwardedTrust::ForwardedTrust(base::Loop& loop, const peer::TrustSettings& trust, base::Log log,
                               OnJudged on_judged)
    : loop_(loop),
      log_(std::move(log)),
      on_judged_(std::move(on_judged)),
      book_(peer::policy_from(trust)),
      watch_(loop),
      checker_(loop, trust, log_) {
  watch();
}

peer::SourceId ForwardedTrust::source(const std::string& peer) {
  if (sources_.size() >= kMaxSources) sources_.clear();
  const auto [at, added] = sources_.try_emplace(peer, next_source_);
  if (added) ++next_source_;
  return at->second;
}

// ---- credentials ----

proto::Decoded<peer::KnownCredential*> ForwardedTrust::offer(proto::ByteView bytes,
                                                             peer::SourceId source) {
  const auto sealed = proto::decode_sealed(bytes);
  if (!sealed) return proto::refuse(sealed.error());
  const proto::Hash id = proto::credential_id(sealed->document);
  // Old ones too: a history is sealed by them.
  const auto news =
      book_.offer(bytes, peer::CredentialBook::Came::Asked, source, budget_, loop_.now());
  if (!news) return news;
  if (*news) check(**news);
  peer::KnownCredential* known = book_.find(id);
  if (known->state == State::Refused) return proto::refuse(known->why);
  return known;
}

void ForwardedTrust::check(const peer::KnownCredential& known) {
  checker_.check(known, [this, id = known.id](
                            const proto::Decoded<peer::CredentialVerdict>& verdict) {
    const auto asked = book_.share(id);
    const auto judged = book_.judge(id, verdict);
    if (!judged && asked) disproved(judged.error(), asked->source, asked->stream);
    if (judged)
      log_.info("{} ({}) epoch {} is trusted", asked->credential.stream.publisher,
                proto::to_hex(asked->credential.stream.fingerprint), asked->credential.epoch);
    else if (asked)
      log_.warning("refused the credential of {} ({}): {}", asked->credential.stream.publisher,
                   proto::to_hex(asked->credential.stream.fingerprint), to_string(judged.error()));
    on_judged_(id, judged);
  });
}

void ForwardedTrust::watch() {
  watch_.start(kWatch, [this] { watch(); });
  if (!checker_.changed()) return;
  for (const peer::KnownCredential* known : book_.renew(peer::policy_from(checker_.trust())))
    check(*known);
}

void ForwardedTrust::set_trust(const peer::TrustSettings& trust) {
  trust::Policy policy = peer::policy_from(trust);
  checker_.set_trust(trust);
  for (const peer::KnownCredential* known : book_.renew(std::move(policy))) check(*known);
}

// ---- what they seal ----

Reject ForwardedTrust::disproved(Reject why, peer::SourceId source, const proto::Hash& stream) {
  switch (why) {
    case Reject::BadSignature:
    case Reject::WrongSigner:
    case Reject::UnknownSigner:
    case Reject::BadRoot:
      budget_.failed(source, stream, loop_.now().mono);
      break;
    default:;  // says nothing against who sent it
  }
  return why;
}

proto::Decoded<ForwardedTrust::Row> ForwardedTrust::row(proto::ByteView bytes,
                                                        const proto::Hash& stream,
                                                        peer::SourceId source) {
  const auto row = proto::decode_row(bytes);
  if (!row) return proto::refuse(row.error());
  const auto header = *proto::decode_header(row->header());
  const peer::KnownCredential* known = book_.find(header.credential);
  if (!known) return proto::refuse(Reject::UnknownCredential);
  if (known->stream != stream) return proto::refuse(Reject::WrongStream);
  if (known->credential.epoch != header.epoch) return proto::refuse(Reject::BadField);
  const base::Now now = loop_.now();
  if (budget_.cut(source, stream, now.mono)) return proto::refuse(Reject::SourceCut);
  const auto good =
      book_.check_seal(header.credential, header.time_ns, row->header(), row->seal(), false, now);
  if (!good) return proto::refuse(disproved(good.error(), source, stream));
  if (proto::row_root(*row) != header.root)
    return proto::refuse(disproved(Reject::BadRoot, source, stream));
  return Row{header, proto::header_hash(row->header()), known->credential.serial};
}

proto::Decoded<proto::Head> ForwardedTrust::head(proto::ByteView bytes, const proto::Hash& stream,
                                                 peer::SourceId source) {
  const auto sealed = proto::sealed_head({proto::ControlKind::Head, stream, bytes});
  if (!sealed) return proto::refuse(sealed.error());
  const auto head = proto::decode_head(sealed->bytes);
  if (!head) return head;
  if (head->stream != stream) return proto::refuse(Reject::WrongStream);
  const peer::KnownCredential* known = book_.find(head->credential);
  if (!known) return proto::refuse(Reject::UnknownCredential);
  if (known->stream != stream) return proto::refuse(Reject::WrongStream);
  if (known->credential.epoch != head->epoch) return proto::refuse(Reject::BadField);
  const base::Now now = loop_.now();
  if (budget_.cut(source, stream, now.mono)) return proto::refuse(Reject::SourceCut);
  const auto good = book_.check_seal(head->credential, head->time_ns, sealed->bytes, sealed->seal,
                                     true, now);
  if (!good) return proto::refuse(disproved(good.error(), source, stream));
  return head;
}

peer::KnownCredential* ForwardedTrust::live(const proto::Hash& credential, std::uint64_t time_ns) {
  const auto known = book_.check_life(credential, time_ns, true, loop_.now());
  return known ? *known : nullptr;
}

}  // namespace mirrorbus::relay
