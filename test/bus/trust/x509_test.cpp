// Against authorities, certificates and revocation lists that openssl's own tools made.
#include "bus/trust/x509.hpp"

#include "bus/trust/own_key.hpp"
#include "test/support/temp_dir.hpp"

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using proto::Reject;
using trust::Verified;

namespace {

const proto::Bytes kDocument = "a credential, as far as this is concerned";

std::string read(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

void write(const std::string& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

struct Pki {
  test::TempDir dir;
  std::string path = dir.path();
  trust::X509Trust trusted{path + "/trusted/authorities.pem", path + "/trusted/certificates", true};

  Pki() { run("new"); }

  void run(const std::string& verb, const std::string& rest = "") const {
    const char* const program = std::getenv("PKI");
    REQUIRE(program != nullptr);
    const std::string line = std::string(program) + " " + verb + " " + path + " " + rest;
    INFO(line);
    REQUIRE(std::system(line.c_str()) == 0);
  }
  trust::X509Signer signer(const std::string& name) const {
    return {path + "/" + name + ".key", path + "/" + name + ".pem"};
  }
  proto::Decoded<Verified> verify(const std::string& name) const {
    const auto signer = this->signer(name);
    auto verified = trusted.verify(signer.fingerprint(), kDocument, signer.sign(kDocument));
    // What was verified before is judged the same, without the signature.
    const auto standing = trust::X509Files(trusted).standing(signer.fingerprint());
    CHECK(standing.has_value() == verified.has_value());
    if (standing && verified)
      CHECK(standing->expires_s == verified->expires_s);
    else if (!standing && !verified)
      CHECK(standing.error() == verified.error());
    return verified;
  }
};

bool is(const proto::Decoded<Verified>& verdict, Reject why) {
  return !verdict && verdict.error() == why;
}

}  // namespace

TEST_CASE("x509: openssl accepts what is signed here, and the reverse") {
  const auto [name, kind, options] =
      GENERATE(std::tuple{"ec", "ec", "-sha256"}, std::tuple{"rsa", "rsa", "-sha256"});
  Pki pki;
  pki.run("leaf", std::string(name) + " " + kind);
  const auto signer = pki.signer(name);

  write(pki.path + "/document", kDocument);
  write(pki.path + "/signature", signer.sign(kDocument));
  const std::string openssl = "cd " + pki.path + " && openssl dgst " + options;
  CHECK(std::system((std::string("cd ") + pki.path + " && openssl x509 -in " + name +
                     ".pem -pubkey -noout >public && openssl dgst " + options +
                     " -verify public -signature signature document >/dev/null")
                        .c_str()) == 0);
  REQUIRE(std::system((openssl + " -sign " + name + ".key -out theirs document").c_str()) == 0);

  const auto verified =
      pki.trusted.verify(signer.fingerprint(), kDocument, read(pki.path + "/theirs"));
  REQUIRE(verified);
  CHECK(verified->fingerprint == signer.fingerprint());
  // The chain ends with whichever of its certificates ends first: they were made one after the
  // other.
  CHECK(verified->expires_s <= signer.expires_s());
  CHECK(verified->expires_s > signer.expires_s() - 60);
  CHECK(verified->recheck_s > std::time(nullptr));
}

TEST_CASE("x509: keys are named as openssl's tools do") {
  Pki pki;
  pki.run("leaf", "one ec");
  const std::string line = "cd " + pki.path +
                           " && openssl x509 -in one.pem -pubkey -noout | openssl pkey -pubin "
                           "-outform DER | openssl dgst -sha256 -binary >hash";
  REQUIRE(std::system(line.c_str()) == 0);
  CHECK(read(pki.path + "/hash") == trust::certificate_fingerprint(pki.path + "/one.pem"));
}

TEST_CASE("x509: Ed25519 keys") {
  Pki pki;
  pki.run("leaf", "one ed25519");
  CHECK(pki.verify("one"));
}

TEST_CASE("x509: what was signed differs, or by whom") {
  Pki pki;
  pki.run("leaf", "one ec");
  pki.run("leaf", "two ec");
  const auto one = pki.signer("one"), two = pki.signer("two");
  CHECK(is(pki.trusted.verify(one.fingerprint(), kDocument + "!", one.sign(kDocument)),
           Reject::BadSignature));
  CHECK(is(pki.trusted.verify(one.fingerprint(), kDocument, two.sign(kDocument)),
           Reject::BadSignature));
  CHECK(is(pki.trusted.verify(one.fingerprint(), kDocument, ""), Reject::BadSignature));
  CHECK(is(pki.trusted.verify(proto::Bytes(32, 'x'), kDocument, one.sign(kDocument)),
           Reject::UnknownSigner));
}

TEST_CASE("x509: revoked, and so is what stands below a revoked authority") {
  Pki pki;
  pki.run("leaf", "one ec");
  REQUIRE(pki.verify("one"));
  SECTION("itself") { pki.run("revoke", "one"); }
  SECTION("its authority") { pki.run("revoke", "intermediate"); }
  SECTION("although another certificate of the key is good") {
    pki.run("renew", "one");
    REQUIRE(pki.verify("one"));
    pki.run("revoke", "one");
  }
  CHECK(is(pki.verify("one"), Reject::KeyRevoked));
}

TEST_CASE("x509: without a valid CRL of each issuer nothing is believed") {
  Pki pki;
  pki.run("leaf", "one ec");
  const std::string crls = pki.path + "/trusted/certificates/";
  SECTION("the root's has run out") {
    pki.run("crl", "root -crl_lastupdate 20200101000000Z -crl_nextupdate 20210101000000Z");
  }
  SECTION("the intermediate's has run out") {
    pki.run("crl", "intermediate -crl_lastupdate 20200101000000Z -crl_nextupdate 20210101000000Z");
  }
  SECTION("one is missing") { std::filesystem::remove(crls + "root.crl"); }
  SECTION("one is not its issuer's") {
    // The same name, another key.
    Pki other;
    std::filesystem::copy_file(other.path + "/trusted/certificates/intermediate.crl",
                               crls + "intermediate.crl",
                               std::filesystem::copy_options::overwrite_existing);
  }
  CHECK(is(pki.verify("one"), Reject::RevocationUnknown));
  pki.trusted.crl = false;
  const auto verified = pki.verify("one");
  REQUIRE(verified);
  CHECK(verified->recheck_s == 0);
}

TEST_CASE("x509: an expired certificate verifies, and says how far it reaches") {
  Pki pki;
  pki.run("leaf", "one ec -startdate 20200101000000Z -enddate 20210101000000Z");
  const auto verified = pki.verify("one");
  REQUIRE(verified);
  CHECK(verified->expires_s == 1'609'459'200);
  // A renewed one beside it reaches further.
  pki.run("renew", "one");
  CHECK(pki.verify("one")->expires_s > std::time(nullptr));
}

TEST_CASE("x509: certificates that do not make a signer trusted") {
  Pki pki;
  SECTION("not valid yet") {
    pki.run("leaf", "one ec -startdate 20380101000000Z -enddate 20390101000000Z");
  }
  SECTION("a weak key") { pki.run("leaf", "one rsa1024"); }
  SECTION("not for signatures") { pki.run("leaf", "one rsa -extensions encipher"); }
  Pki other;
  SECTION("of another authority") {
    pki.run("leaf", "one ec");
    pki.trusted.authorities = other.path + "/trusted/authorities.pem";
  }
  SECTION("its chain is not complete") {
    pki.run("leaf", "one ec");
    std::filesystem::remove(pki.path + "/trusted/certificates/intermediate.pem");
  }
  CHECK(is(pki.verify("one"), Reject::UntrustedSigner));
}

TEST_CASE("x509: files that say nothing, and files that are not there") {
  Pki pki;
  pki.run("leaf", "one ec");
  write(pki.path + "/trusted/certificates/README", "not PEM\n");
  write(pki.path + "/trusted/certificates/broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  CHECK(pki.verify("one"));
  CHECK_THROWS(trust::X509Signer(pki.path + "/none.key", pki.path + "/one.pem"));
  CHECK_THROWS(trust::X509Signer(pki.path + "/one.key", pki.path + "/root/ca.pem"));
  pki.trusted.certificates = pki.path + "/none";
  CHECK_THROWS(pki.trusted.verify("", kDocument, ""));
}

TEST_CASE("x509: what one has signed oneself is told from what others have") {
  Pki pki;
  pki.run("leaf", "one ec");
  pki.run("leaf", "two ec");
  const trust::Identity own{proto::Scheme::X509, pki.path + "/one.key", pki.path + "/one.pem", ""};
  const auto signature = own.sign(kDocument);
  const auto verified = trust::verify_own(own, kDocument, signature);
  REQUIRE(verified);
  CHECK(verified->fingerprint == own.fingerprint());
  CHECK(verified->expires_s == own.expires_s());
  CHECK(trust::verify_own(own, kDocument, pki.signer("two").sign(kDocument)).error() ==
        Reject::BadSignature);
  CHECK(trust::verify_own(own, kDocument + "!", signature).error() == Reject::BadSignature);
  CHECK(trust::verify_own({}, kDocument, signature).error() == Reject::SchemeMismatch);
}
