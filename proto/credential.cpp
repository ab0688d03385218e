#include "proto/credential.hpp"

#include "proto/limits.hpp"
#include "proto/sha256.hpp"
#include "proto/topic.hpp"
#include "proto/wire.hpp"

#include <algorithm>

namespace mirrorbus::proto {
namespace {

constexpr ByteView kMagic("mirrorbus-cred\0\0", 16);
constexpr std::uint8_t kVersion = 1;
constexpr std::uint16_t kNewJournal = 0x0001;

bool printable(ByteView text) noexcept {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

bool valid_fingerprint(Scheme scheme, ByteView fingerprint) noexcept {
  switch (scheme) {
    case Scheme::None:
      return fingerprint.empty();
    case Scheme::OpenPgp:
      return fingerprint.size() == 20 || fingerprint.size() == 32;
    case Scheme::X509:
      return fingerprint.size() == 32;
  }
  return false;
}

}  // namespace

std::string_view to_string(Scheme scheme) noexcept {
  switch (scheme) {
    case Scheme::None:
      return "none";
    case Scheme::OpenPgp:
      return "openpgp";
    case Scheme::X509:
      return "x509";
  }
  return "unknown";
}

Hash StreamName::id() const {
  Bytes bytes;
  Writer(bytes).u8(static_cast<std::uint8_t>(scheme)).short_string(fingerprint).short_string(publisher);
  return sha256(bytes);
}

std::string_view Credential::endpoint(EndpointKind kind) const {
  const auto it = std::ranges::find(endpoints, kind, &Endpoint::kind);
  return it == endpoints.end() ? std::string_view() : std::string_view(it->address);
}

Bytes encode_credential(const Credential& c) {
  Bytes out;
  Writer w(out);
  w.raw(kMagic).u8(kVersion).u8(static_cast<std::uint8_t>(c.stream.scheme));
  w.u16(c.new_journal ? kNewJournal : 0);
  w.u64(c.epoch).u32(c.serial).u64(c.issued_ns).u64(c.not_before_ns).u64(c.not_after_ns);
  w.hash(c.session_key).hash(c.curve_key);
  w.u64(c.pin.epoch).u64(c.pin.batch).u64(c.pin.last_seq).hash(c.pin.header);
  w.short_string(c.stream.fingerprint).short_string(c.stream.publisher);
  w.u8(static_cast<std::uint8_t>(c.scopes.size()));
  for (const std::string& scope : c.scopes) w.short_string(scope);
  w.u8(static_cast<std::uint8_t>(c.endpoints.size()));
  for (const Endpoint& e : c.endpoints)
    w.u8(static_cast<std::uint8_t>(e.kind)).short_string(e.address);
  return out;
}

Decoded<Credential> decode_credential(ByteView document) {
  if (document.size() > kMaxCredentialSize) return refuse(Reject::TooLarge);
  Reader r(document);
  Credential c;
  const ByteView magic = r.raw(kMagic.size());
  const std::uint8_t version = r.u8(), scheme = r.u8();
  const std::uint16_t flags = r.u16();
  if (r.failure()) return refuse(*r.failure());
  if (magic != kMagic) return refuse(Reject::BadMagic);
  if (version != kVersion) return refuse(Reject::BadVersion);
  if (scheme > static_cast<std::uint8_t>(Scheme::X509)) return refuse(Reject::BadField);
  if ((flags & ~kNewJournal) != 0) return refuse(Reject::BadFlags);
  c.stream.scheme = static_cast<Scheme>(scheme);
  c.new_journal = (flags & kNewJournal) != 0;
  c.epoch = r.u64();
  c.serial = r.u32();
  c.issued_ns = r.u64();
  c.not_before_ns = r.u64();
  c.not_after_ns = r.u64();
  c.session_key = r.hash();
  c.curve_key = r.hash();
  c.pin = {r.u64(), r.u64(), r.u64(), r.hash()};
  c.stream.fingerprint = r.short_string();
  c.stream.publisher = r.short_string();
  const std::size_t scopes = r.u8();
  if (scopes > kMaxScopes) return refuse(Reject::TooLarge);
  for (std::size_t i = 0; i < scopes && !r.failure(); ++i) c.scopes.emplace_back(r.short_string());
  const std::size_t endpoints = r.u8();
  if (endpoints > kMaxEndpoints) return refuse(Reject::TooLarge);
  for (std::size_t i = 0; i < endpoints && !r.failure(); ++i) {
    const std::uint8_t kind = r.u8();
    c.endpoints.push_back({static_cast<EndpointKind>(kind), std::string(r.short_string())});
  }
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  if (!valid_fingerprint(c.stream.scheme, c.stream.fingerprint)) return refuse(Reject::BadField);
  if (c.stream.publisher.empty() || !printable(c.stream.publisher)) return refuse(Reject::BadField);
  if (c.epoch == 0 || c.not_before_ns > c.not_after_ns || c.pin.epoch >= c.epoch + (c.serial > 0) ||
      c.pin.last_seq == UINT64_MAX)  // no event could follow
    return refuse(Reject::BadField);
  for (const std::string& scope : c.scopes)
    if (!TopicPattern::parse(scope)) return refuse(Reject::BadPattern);
  for (const Endpoint& e : c.endpoints)
    if (e.kind < EndpointKind::Publish || e.kind > EndpointKind::Content || e.address.empty() ||
        !printable(e.address))
      return refuse(Reject::BadField);
  return c;
}

Hash credential_id(ByteView document) noexcept { return sha256(document); }

Bytes encode_sealed(const SealedCredential& sealed) {
  Bytes out;
  Writer(out)
      .u32(static_cast<std::uint32_t>(sealed.document.size()))
      .raw(sealed.document)
      .u16(static_cast<std::uint16_t>(sealed.signature.size()))
      .raw(sealed.signature);
  return out;
}

Decoded<SealedCredential> decode_sealed(ByteView bytes) {
  if (bytes.size() > kMaxCredentialSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  SealedCredential sealed;
  sealed.document = r.raw(r.u32());
  const std::uint16_t size = r.u16();
  if (size > kMaxSignatureSize) return refuse(Reject::TooLarge);
  sealed.signature = r.raw(size);
  r.expect_end();
  if (r.failure()) return refuse(*r.failure());
  return sealed;
}

}  // namespace mirrorbus::proto
