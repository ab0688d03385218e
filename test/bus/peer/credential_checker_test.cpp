// Keys that change while credentials are known or being checked. Real gpg.
#include "bus/peer/credential_checker.hpp"

#include "bus/trust/openpgp.hpp"
#include "test/bus/peer/core_fixture.hpp"
#include "test/support/gnupg_home.hpp"
#include "test/support/test_loop.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

using namespace mirrorbus;

namespace {

struct Fixture : test::TestLoop {
  test::GnupgHome home;
  std::string key = home.make_key("pub@example.org");
  peer::CredentialChecker checker{loop, trusting(home), base::Log()};
  std::vector<std::string> judged;
  peer::CredentialVerdict verdict;  // the last good one

  static peer::TrustSettings trusting(const test::GnupgHome& home) {
    peer::TrustSettings trust;
    trust.home = home.path();
    return trust;
  }
  peer::KnownCredential credential(const std::string& document) const {
    peer::KnownCredential known;
    known.credential.stream = {proto::Scheme::OpenPgp, "", "pub@example.org"};
    REQUIRE(proto::from_hex(key, known.credential.stream.fingerprint));
    known.sealed = {document, trust::OpenPgp(home.path()).sign(key, document)};
    known.id = proto::credential_id(document);
    return known;
  }
  void check(const peer::KnownCredential& known) {
    checker.check(known, [this](const proto::Decoded<peer::CredentialVerdict>& found) {
      judged.push_back(found ? "good" : std::string(to_string(found.error())));
      if (found) verdict = *found;
    });
  }
  std::vector<std::string> all(std::size_t count) {
    CHECK(until([&] { return judged.size() == count; }));
    return std::exchange(judged, {});
  }
};

using Verdicts = std::vector<std::string>;

}  // namespace

TEST_CASE("what has been verified is judged by its key alone when keys change", "[trust]") {
  Fixture f;
  peer::KnownCredential known = f.credential("document");
  f.check(known);
  REQUIRE(f.all(1) == Verdicts{"good"});
  CHECK(f.verdict.primary_fingerprint == known.credential.stream.fingerprint);
  known.signer = f.verdict.signer;
  CHECK_FALSE(f.checker.changed());

  // Not one gpg for each: with these signatures it would find nothing good.
  known.sealed.signature = "is not looked at again";
  f.home.make_key("other@example.org");
  REQUIRE(f.checker.changed());
  for (int i = 0; i < 100; ++i) f.check(known);
  CHECK(f.all(100) == Verdicts(100, "good"));

  f.home.revoke(f.key);
  REQUIRE(f.checker.changed());
  for (int i = 0; i < 100; ++i) f.check(known);
  CHECK(f.all(100) == Verdicts(100, "key_revoked"));
}

TEST_CASE("certificates that cannot be read are no trouble of OpenPGP's", "[trust]") {
  Fixture f;
  peer::KnownCredential known = f.credential("document");
  f.check(known);
  REQUIRE(f.all(1) == Verdicts{"good"});
  known.signer = f.verdict.signer;
  peer::TrustSettings trust = Fixture::trusting(f.home);
  trust.authorities = f.home.path() + "/no-authorities.pem";
  trust.certificates = f.home.path() + "/no-certificates";
  f.checker.set_trust(trust);
  f.check(known);
  CHECK(f.all(1) == Verdicts{"good"});
}

TEST_CASE("a key revoked while its credential is being checked", "[trust]") {
  Fixture f;
  const peer::KnownCredential known = f.credential("document");
  f.check(known);
  f.checker.wait_idle();  // gpg has said that it is good; we have not heard it yet
  f.home.revoke(f.key);
  REQUIRE(f.checker.changed());  // and those that were known would be checked again now
  CHECK(f.all(1) == Verdicts{"key_revoked"});
}

TEST_CASE("another home says what is known of the same credentials", "[trust]") {
  Fixture f;
  peer::KnownCredential known = f.credential("document");
  f.check(known);
  REQUIRE(f.all(1) == Verdicts{"good"});
  known.signer = f.verdict.signer;
  test::GnupgHome other;
  other.make_key("somebody@example.org");
  f.checker.set_trust(Fixture::trusting(other));
  f.check(known);
  CHECK(f.all(1) == Verdicts{"unknown_signer"});
}

namespace {

// A home in which gpg waits, as it does for another process's lock: until somebody writes its
// keyring.
struct HangingHome {
  std::string keyring;
  explicit HangingHome(const test::GnupgHome& home) : keyring(home.path() + "/pubring.kbx") {
    REQUIRE(rename(keyring.c_str(), (keyring + ".away").c_str()) == 0);
    REQUIRE(mkfifo(keyring.c_str(), 0600) == 0);
  }
  void come_back() const {
    const base::Fd waiting(::open(keyring.c_str(), O_WRONLY | O_NONBLOCK));
    REQUIRE(rename((keyring + ".away").c_str(), keyring.c_str()) == 0);
  }
};

}  // namespace

TEST_CASE("how long a gpg hangs is told, and what it says later counts", "[trust]") {
  Fixture f;
  const peer::KnownCredential known = f.credential("document");
  CHECK(f.checker.running() == base::Duration::zero());
  const HangingHome hanging(f.home);
  f.check(known);
  CHECK(f.until([&] { return f.checker.running() > std::chrono::milliseconds(100); }));
  CHECK(f.judged.empty());
  hanging.come_back();
  CHECK(f.all(1).size() == 1);  // from that keyring, or from the one that gpg had begun to read
  CHECK(f.checker.running() == base::Duration::zero());
}

TEST_CASE("a gpg that hangs holds up nobody's end", "[trust]") {
  const Fixture f;
  const peer::KnownCredential known = f.credential("document");
  const HangingHome hanging(f.home);
  bool judged = false;
  {
    test::TestLoop t;
    peer::CredentialChecker checker(t.loop, Fixture::trusting(f.home), base::Log());
    checker.check(known, [&judged](const auto&) { judged = true; });
    REQUIRE(t.until([&] { return checker.running() > std::chrono::milliseconds(100); }));
  }
  hanging.come_back();
  CHECK_FALSE(judged);
}
