// Against GnuPG homes that gpg itself made and changed.
#include "bus/trust/openpgp.hpp"
#include "test/support/gnupg_home.hpp"

#include <ctime>

using namespace mirrorbus;
using proto::Reject;
using trust::OpenPgp;
using trust::Verified;

namespace {

const proto::Bytes kDocument = "a credential, as far as this is concerned";

proto::Bytes bytes(const std::string& hexadecimal) {
  proto::Bytes result;
  REQUIRE(proto::from_hex(hexadecimal, result));
  return result;
}

std::string said(const proto::Decoded<Verified>& verdict) {
  return verdict ? "good" : std::string(to_string(verdict.error()));
}

// What is said of one that was verified before; nothing if its key is not known.
std::string standing(const test::GnupgHome& home, const proto::Bytes& signer) {
  const auto signers = OpenPgp(home.path()).signers();
  const auto known = signers.find(signer);
  return known == signers.end() ? "" : said(known->second);
}

}  // namespace

TEST_CASE("openpgp: one listing says what verifying each signature again would", "[openpgp]") {
  test::GnupgHome home;
  const std::string alone = home.make_key("alone@example.org");
  const std::string primary = home.make_key("parts@example.org", "cert");
  home.gpg("--quick-add-key " + primary + " ed25519 sign 2y");
  const std::string subkey = home.fingerprints(primary).at(1);

  OpenPgp gpg(home.path());
  const proto::Bytes by_alone = gpg.sign(alone, kDocument), by_parts = gpg.sign(primary, kDocument);
  const auto of_alone = gpg.verify(kDocument, by_alone), of_parts = gpg.verify(kDocument, by_parts);
  REQUIRE(of_alone);
  CHECK(of_alone->fingerprint == bytes(alone));
  CHECK(of_alone->signer == bytes(alone));
  CHECK(of_alone->expires_s == 0);
  REQUIRE(of_parts);
  CHECK(of_parts->fingerprint == bytes(primary));
  CHECK(of_parts->signer == bytes(subkey));
  CHECK(of_parts->expires_s > std::time(nullptr) + 700 * 86'400);

  const auto signers = gpg.signers();
  CHECK(signers.size() == 3);
  const proto::Decoded<Verified>& listed = signers.at(bytes(subkey));
  REQUIRE(listed);
  CHECK(listed->fingerprint == of_parts->fingerprint);
  CHECK(listed->signer == of_parts->signer);
  CHECK(listed->expires_s == of_parts->expires_s);

  SECTION("a subkey is revoked") {
    home.revoke_subkey(primary, 1);
    CHECK(said(gpg.verify(kDocument, by_parts)) == "key_revoked");
    CHECK(standing(home, bytes(subkey)) == "key_revoked");
    CHECK(standing(home, bytes(alone)) == "good");
  }
  SECTION("a primary key is revoked, and its subkeys with it") {
    home.revoke(primary);
    CHECK(said(gpg.verify(kDocument, by_parts)) == "key_revoked");
    CHECK(standing(home, bytes(subkey)) == "key_revoked");
    CHECK(standing(home, bytes(alone)) == "good");
  }
  SECTION("a key is deleted") {
    home.delete_key(alone);
    CHECK(said(gpg.verify(kDocument, by_alone)) == "unknown_signer");
    CHECK(standing(home, bytes(alone)).empty());
    CHECK(standing(home, bytes(subkey)) == "good");
  }
  SECTION("a key is given another end") {
    home.gpg("--quick-set-expire " + alone + " 30d");
    const auto now = gpg.verify(kDocument, by_alone);
    REQUIRE(now);
    CHECK(now->expires_s > std::time(nullptr) + 29 * 86'400);
    CHECK(gpg.signers().at(bytes(alone))->expires_s == now->expires_s);
  }
}
