#include "bus/peer/credential_checker.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

constexpr int kVerifyTries = 30;
constexpr base::Duration kVerifyPause = std::chrono::seconds(1);

}  // namespace

CredentialChecker::CredentialChecker(base::Loop& loop, const TrustSettings& trust, base::Log log)
    : loop_(loop),
      trust_(trust),
      log_(std::move(log)),
      keyring_stamp_(trust.keyring().stamp()),
      worker_(loop, 1) {}

void CredentialChecker::check(const KnownCredential& known, Judge judge) {
  if (known.credential.stream.scheme == proto::Scheme::None) {
    // The policy has a rule for unsigned streams of this name; there is nothing else to check.
    worker_.submit([] {}, [judge = std::move(judge)](base::Outcome<void>) {
      judge(CredentialVerdict{});
    });
    return;
  }
  verify(known.credential.stream, known.sealed, std::move(judge), kVerifyTries);
}

void CredentialChecker::verify(const proto::StreamName& stream,
                               const proto::SealedCredential& sealed, Judge judged, int tries) {
  const proto::Hash id = proto::credential_id(sealed.document);
  worker_.submit(
      [keyring = trust_.keyring(), stream, sealed] { return keyring.verify(stream, sealed); },
      [this, id, stream, sealed, judged,
       tries](base::Outcome<proto::Decoded<trust::Verified>> verified) {
        if (verified) {
          verify_again_.erase(id);
          if (!*verified) return judged(proto::refuse(verified->error()));
          if (const std::int64_t until = (*verified)->recheck_s; until != 0)
            recheck_s_ = recheck_s_ == 0 ? until : std::min(recheck_s_, until);
          return judged(CredentialVerdict{(*verified)->fingerprint, (*verified)->expires_s});
        }
        std::string why;
        try {
          std::rethrow_exception(verified.error());
        } catch (const std::exception& error) {
          why = base::describe(error);
        }
        // gpg failing (a lock held by another process, no memory) says nothing of the credential.
        log_.warning("a credential could not be checked{}: {}", tries > 1 ? ", trying again" : "",
                     why);
        if (tries <= 1) {
          verify_again_.erase(id);
          return judged(proto::refuse(proto::Reject::Unavailable));
        }
        auto& timer = verify_again_[id];
        if (!timer) timer = std::make_unique<base::Timer>(loop_);
        timer->start(kVerifyPause, [this, stream, sealed, judged, tries] {
          verify(stream, sealed, judged, tries - 1);
        });
      });
}

bool CredentialChecker::changed() {
  std::string stamp = trust_.keyring().stamp();
  const bool other = stamp != keyring_stamp_;
  // A list that has run out, like one that was replaced, may take back what was believed.
  const bool outdated = recheck_s_ != 0 && base::to_ns(loop_.now().wall) / 1'000'000'000 >
                                               static_cast<std::uint64_t>(recheck_s_);
  if (!other && !outdated) return false;
  keyring_stamp_ = std::move(stamp);
  recheck_s_ = 0;
  log_.notice("{}; checking all credentials again",
              other ? "the keys, certificates or CRLs that are trusted have changed"
                    : "a CRL has come to its end");
  return true;
}

void CredentialChecker::set_trust(const TrustSettings& trust) {
  trust_ = trust;
  keyring_stamp_ = trust_.keyring().stamp();
}

}  // namespace mirrorbus::peer
