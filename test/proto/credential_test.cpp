#include "proto/credential.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"
#include "test/support/golden.hpp"

#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::proto;

namespace {

Hash hash_of(char fill) { return Hash::from_bytes(Bytes(32, fill)); }

Credential credential() {
  Credential c;
  c.stream = {Scheme::OpenPgp, Bytes(20, 'f'), "relayd@relay1.example.org"};
  c.epoch = 1'763'640'000'000;
  c.serial = 2;
  c.issued_ns = 1'763'640'000'000'000'000;
  c.not_before_ns = c.issued_ns;
  c.not_after_ns = c.issued_ns + 86'400'000'000'000;
  c.session_key = hash_of('k');
  c.pin = {1'763'640'000'000, 9, 120, hash_of('h')};
  c.scopes = {"org.example.dev.**", "org.example.*.bus.**"};
  c.endpoints = {{EndpointKind::Publish, "tcp://192.0.2.1:9940"},
                 {EndpointKind::Content, "http://192.0.2.1:9944"}};
  return c;
}

std::string why(ByteView document) {
  const auto decoded = decode_credential(document);
  return decoded ? "accepted" : std::string(to_string(decoded.error()));
}
// Of a credential with one thing changed.
std::string why(const std::function<void(Credential&)>& change) {
  Credential c = credential();
  change(c);
  return why(encode_credential(c));
}

}  // namespace

TEST_CASE("a credential survives", "[credential]") {
  const Bytes document = encode_credential(credential());
  CHECK(mirrorbus::test::is_golden("credential/document.bin", document));
  const auto back = decode_credential(document);
  REQUIRE(back);
  CHECK(*back == credential());
  CHECK(back->endpoint(EndpointKind::Content) == "http://192.0.2.1:9944");
  CHECK(back->endpoint(EndpointKind::Serve) == "");
  CHECK(credential_id(document) == sha256(document));
  CHECK(why([](Credential& c) { c.new_journal = true; }) == "accepted");
  CHECK(why([](Credential& c) { c.stream.fingerprint = Bytes(32, 'f'); }) == "accepted");
  CHECK(why([](Credential& c) { c.stream.scheme = Scheme::None, c.stream.fingerprint.clear(); }) ==
        "accepted");
}

TEST_CASE("a stream is scheme, key and name together", "[credential]") {
  const StreamName name = credential().stream;
  CHECK(name.id() ==
        sha256(Bytes("\x01\x14") + Bytes(20, 'f') + "\x19" + "relayd@relay1.example.org"));
  StreamName other = name;
  other.scheme = Scheme::X509;
  CHECK(other.id() != name.id());
  other = name;
  other.fingerprint[0] = 'g';
  CHECK(other.id() != name.id());
  other = name;
  other.publisher += 'x';
  CHECK(other.id() != name.id());
}

TEST_CASE("bad credentials are refused by name", "[credential]") {
  const Bytes good = encode_credential(credential());
  const auto with = [&](std::size_t at, char value) {
    Bytes bytes = good;
    bytes[at] = value;
    return why(ByteView(bytes));
  };
  for (std::size_t size = 0; size < good.size(); size += 3)
    CHECK(why(ByteView(good).substr(0, size)) == "truncated");
  CHECK(why(ByteView(good + "x")) == "trailing_bytes");
  CHECK(with(0, 'x') == "bad_magic");
  CHECK(with(16, 2) == "bad_version");
  CHECK(with(17, 3) == "bad_field");
  CHECK(with(18, 1) == "bad_flags");
  CHECK(why([](Credential& c) { c.epoch = 0; }) == "bad_field");
  CHECK(why([](Credential& c) { c.not_after_ns = c.not_before_ns - 1; }) == "bad_field");
  CHECK(why([](Credential& c) { c.serial = 0; }) == "bad_field");  // pinned to its own epoch
  CHECK(why([](Credential& c) { c.pin.epoch = c.epoch + 1; }) == "bad_field");
  CHECK(why([](Credential& c) { c.pin.last_seq = UINT64_MAX; }) == "bad_field");
  CHECK(why([](Credential& c) { c.pin.last_seq = UINT64_MAX - 1; }) == "accepted");
  CHECK(why([](Credential& c) { c.stream.fingerprint.pop_back(); }) == "bad_field");
  CHECK(why([](Credential& c) { c.stream.scheme = Scheme::None; }) == "bad_field");
  CHECK(why([](Credential& c) { c.stream.publisher = ""; }) == "bad_field");
  CHECK(why([](Credential& c) { c.stream.publisher = "a b"; }) == "bad_field");
  CHECK(why([](Credential& c) { c.scopes = {"A"}; }) == "bad_pattern");
  CHECK(why([](Credential& c) { c.scopes.assign(65, "a"); }) == "too_large");
  CHECK(why([](Credential& c) {
          c.endpoints.assign(17, {EndpointKind::Serve, "x"});
        }) == "too_large");
  CHECK(why([](Credential& c) { c.endpoints[0].kind = EndpointKind{4}; }) == "bad_field");
  CHECK(why([](Credential& c) { c.endpoints[0].address = ""; }) == "bad_field");
  CHECK(why(ByteView(Bytes(kMaxCredentialSize + 1, 'x'))) == "too_large");
}

TEST_CASE("a sealed credential survives, and refuses by name", "[credential]") {
  const SealedCredential sealed{encode_credential(credential()), Bytes(119, 'g')};
  const Bytes bytes = encode_sealed(sealed);
  CHECK(mirrorbus::test::is_golden("credential/sealed.bin", bytes));
  const auto back = decode_sealed(bytes);
  REQUIRE(back);
  CHECK(*back == sealed);
  const auto refused = [](ByteView text) {
    const auto decoded = decode_sealed(text);
    return decoded ? "accepted" : std::string(to_string(decoded.error()));
  };
  for (std::size_t size = 0; size < bytes.size(); size += 13)
    CHECK(refused(ByteView(bytes).substr(0, size)) == "truncated");
  CHECK(refused(bytes + "x") == "trailing_bytes");
  CHECK(refused("\xff\xff\xff\xff" + bytes.substr(4)) == "truncated");
  CHECK(refused(encode_sealed({"d", Bytes(kMaxSignatureSize + 1, 'g')})) == "too_large");
  CHECK(refused(Bytes(kMaxCredentialSize + 1, 'x')) == "too_large");
}
