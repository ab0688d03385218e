#include "bus/peer/credential_checker.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

constexpr int kVerifyTries = 30;
constexpr base::Duration kVerifyPause = std::chrono::seconds(1);
constexpr base::Duration kGpgPatience = std::chrono::seconds(1);  // when we end
constexpr base::Duration kLongRunning = std::chrono::seconds(10);
constexpr base::Duration kTellAgain = std::chrono::seconds(60);

}  // namespace

CredentialChecker::CredentialChecker(base::Loop& loop, const TrustSettings& trust, base::Log log)
    : loop_(loop),
      trust_(trust),
      log_(std::move(log)),
      keyring_stamp_(trust.keyring().stamp()),
      running_told_(loop),
      worker_(loop, 1) {}

CredentialChecker::~CredentialChecker() { worker_.leave_behind(kGpgPatience); }

// One after the other.
template <class Job, class Done>
void CredentialChecker::submit(Job job, Done done) {
  const auto begins = [this] {
    began_ = loop_.now().mono;
    running_told_.start(kLongRunning, [this] { tell_running(); });
  };
  if (waiting_++ == 0) begins();
  worker_.submit(std::move(job), [this, begins, done = std::move(done)](auto outcome) mutable {
    running_told_.cancel();
    if (--waiting_ > 0) begins();
    done(std::move(outcome));
  });
}

base::Duration CredentialChecker::running() const {
  return waiting_ == 0 ? base::Duration{} : loop_.now().mono - began_;
}

void CredentialChecker::tell_running() {
  log_.warning(
      "gpg has been at one credential for {} s: does another process hold a lock in {}? "
      "Until it is done no credential is checked",
      std::chrono::duration_cast<std::chrono::seconds>(running()).count(), trust_.home);
  running_told_.start(kTellAgain, [this] { tell_running(); });
}

void CredentialChecker::check(const KnownCredential& known, Judge judge) {
  if (known.credential.stream.scheme == proto::Scheme::None) {
    // The policy has a rule for unsigned streams of this name; there is nothing else to check.
    submit([] {}, [judge = std::move(judge)](base::Outcome<void>) { judge(CredentialVerdict{}); });
    return;
  }
  start({known.id, known.credential.stream, known.sealed, known.signer, std::move(judge),
         kVerifyTries});
}

void CredentialChecker::start(Check check) {
  auto job = [keyring = trust_.keyring(), stream = check.stream, sealed = check.sealed,
              signer = check.signer, reading = reading_, generation = generation_] {
    if (signer.empty()) return keyring.verify(stream, sealed);
    if (reading->generation != generation) {
      reading->snapshot.reset();
      reading->snapshot.emplace(keyring);
      reading->generation = generation;
    }
    if (auto standing = reading->snapshot->standing(stream.scheme, signer)) return *standing;
    return keyring.verify(stream, sealed);
  };
  submit(std::move(job), [this, check = std::move(check), generation = generation_](
                             Outcome outcome) { found(check, generation, outcome); });
}

void CredentialChecker::found(Check check, std::uint64_t generation, const Outcome& outcome) {
  // Keys that changed meanwhile: whoever asks has all checked again that have been judged, which
  // this one has not been.
  if (generation != generation_) return start(std::move(check));
  if (outcome) {
    verify_again_.erase(check.id);
    const proto::Decoded<trust::Verified>& verified = *outcome;
    if (!verified) return check.judge(proto::refuse(verified.error()));
    if (const std::int64_t until = verified->recheck_s; until != 0)
      recheck_s_ = recheck_s_ == 0 ? until : std::min(recheck_s_, until);
    return check.judge(
        CredentialVerdict{verified->fingerprint, verified->expires_s, verified->signer});
  }
  std::string why;
  try {
    std::rethrow_exception(outcome.error());
  } catch (const std::exception& error) {
    why = base::describe(error);
  }
  // gpg failing (a lock held by another process, no memory) says nothing of the credential.
  log_.warning("a credential could not be checked{}: {}", check.tries > 1 ? ", trying again" : "",
               why);
  if (check.tries <= 1) {
    verify_again_.erase(check.id);
    return check.judge(proto::refuse(proto::Reject::Unavailable));
  }
  --check.tries;
  auto& timer = verify_again_[check.id];
  if (!timer) timer = std::make_unique<base::Timer>(loop_);
  timer->start(kVerifyPause, [this, check = std::move(check)] { start(check); });
}

bool CredentialChecker::changed() {
  std::string stamp = trust_.keyring().stamp();
  const bool other = stamp != keyring_stamp_;
  // A list that has run out, like one that was replaced, may take back what was believed.
  const bool outdated = recheck_s_ != 0 && base::to_ns(loop_.now().wall) / 1'000'000'000 >
                                               static_cast<std::uint64_t>(recheck_s_);
  if (!other && !outdated) return false;
  keyring_stamp_ = std::move(stamp);
  ++generation_;
  recheck_s_ = 0;
  log_.notice("{}; checking all credentials again",
              other ? "the keys, certificates or CRLs that are trusted have changed"
                    : "a CRL has come to its end");
  return true;
}

void CredentialChecker::set_trust(const TrustSettings& trust) {
  trust_ = trust;
  ++generation_;
  keyring_stamp_ = trust_.keyring().stamp();
}

}  // namespace mirrorbus::peer
