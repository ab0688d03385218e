// The credential: a long-lived key's signed word on a short-lived session key. See credential.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::proto {

enum class Scheme : std::uint8_t { None = 0, OpenPgp = 1, X509 = 2 };
std::string_view to_string(Scheme scheme) noexcept;  // "none", "openpgp", "x509"

// Who publishes: scheme, primary key and name together. The name alone is a label.
struct StreamName {
  Scheme scheme = Scheme::None;
  Bytes fingerprint;  // of the primary key: 20 or 32 bytes; empty without a scheme
  std::string publisher;

  Hash id() const;
  bool operator==(const StreamName&) const = default;
};

enum class EndpointKind : std::uint8_t { Publish = 1, Serve = 2, Content = 3 };

struct Endpoint {
  EndpointKind kind = EndpointKind::Publish;
  std::string address;  // "tcp://…", "ipc://…"; content: "http://…" or "https://…"
  bool operator==(const Endpoint&) const = default;
};

// How the history stood when a credential was made: the last durable batch. Zero = no history.
struct Pin {
  std::uint64_t epoch = 0;
  std::uint64_t batch = 0;
  std::uint64_t last_seq = 0;
  Hash header;
  bool operator==(const Pin&) const = default;
};

struct Credential {
  StreamName stream;
  std::uint64_t epoch = 0;
  std::uint32_t serial = 0;
  std::uint64_t issued_ns = 0;
  std::uint64_t not_before_ns = 0;
  std::uint64_t not_after_ns = 0;
  Hash session_key;  // an Ed25519 public key
  Hash curve_key;    // reserved, zero
  Pin pin;
  bool new_journal = false;  // the journal was lost or is the first: seq starts at 1
  std::vector<std::string> scopes;  // topic patterns this stream may use
  std::vector<Endpoint> endpoints;

  // The first address of a kind, or empty.
  std::string_view endpoint(EndpointKind kind) const;
  bool operator==(const Credential&) const = default;
};

// The document: what the long-lived key signs (a detached signature), byte for byte.
Bytes encode_credential(const Credential& credential);
Decoded<Credential> decode_credential(ByteView document);
Hash credential_id(ByteView document) noexcept;

// Document and signature together, as they travel and are kept.
struct SealedCredential {
  Bytes document;
  Bytes signature;
  bool operator==(const SealedCredential&) const = default;
};
Bytes encode_sealed(const SealedCredential& sealed);
Decoded<SealedCredential> decode_sealed(ByteView bytes);

}  // namespace mirrorbus::proto
