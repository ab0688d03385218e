// Every reason to refuse something that came from outside. Closed on purpose: the names are metric
// labels, log words and the folder names of the bad vectors, and are never reused.
#pragma once

#include <expected>
#include <string_view>

namespace mirrorbus::proto {

// clang-format off
#define MIRRORBUS_REJECTS(X)                                                                    \
  /* any format */                                                                              \
  X(Truncated, "truncated")               /* ends before a field does */                        \
  X(TrailingBytes, "trailing_bytes")      /* goes on after its last field */                    \
  X(TooLarge, "too_large")                /* a size or count is over its limit */               \
  X(BadMagic, "bad_magic")                                                                      \
  X(BadVersion, "bad_version")                                                                  \
  X(BadFlags, "bad_flags")                /* a reserved bit is set */                           \
  X(BadField, "bad_field")                /* a value outside what the format allows */          \
  X(NotCanonical, "not_canonical")        /* a second spelling of the same value */             \
  X(BadUtf8, "bad_utf8")                                                                        \
  /* msgpack bodies and requests */                                                             \
  X(BadMsgpack, "bad_msgpack")                                                                  \
  X(TooDeep, "too_deep")                                                                        \
  X(MissingKey, "missing_key")                                                                  \
  X(WrongType, "wrong_type")                                                                    \
  X(BadJson, "bad_json")                                                                        \
  /* topics */                                                                                  \
  X(BadTopic, "bad_topic")                                                                      \
  X(BadPattern, "bad_pattern")                                                                  \
  /* batches and events */                                                                      \
  X(BadCount, "bad_count")                /* batch of none, or of too many */                   \
  X(BadPath, "bad_path")                  /* Merkle path does not lead to the root */           \
  X(BadIndex, "bad_index")                /* seq outside its batch */                           \
  X(BadSignature, "bad_signature")                                                              \
  X(BadRoot, "bad_root")                  /* recomputed root differs from the signed one */     \
  X(BadChain, "bad_chain")                /* header does not follow the one before */           \
  X(SeqMismatch, "seq_mismatch")                                                                \
  X(Superseded, "superseded")             /* an older session key after its successor took over */ \
  X(Equivocation, "equivocation")         /* two headers for one batch number */                \
  X(EpochRollback, "epoch_rollback")                                                            \
  /* credentials and trust */                                                                   \
  X(UnknownSigner, "unknown_signer")      /* no such key in the keyring */                      \
  X(UnknownCredential, "unknown_credential")                                                    \
  X(WrongSigner, "wrong_signer")          /* signed, but not by the key it names */             \
  X(UntrustedSigner, "untrusted_signer")  /* X.509: no chain to an authority, or not for this */ \
  X(KeyRevoked, "key_revoked")                                                                  \
  X(RevocationUnknown, "revocation_unknown") /* X.509: no valid CRL of each issuer */            \
  X(KeyExpired, "key_expired")                                                                  \
  X(CredentialExpired, "credential_expired")                                                    \
  X(CredentialNotYet, "credential_not_yet")                                                     \
  X(CredentialFuture, "credential_future")                                                      \
  X(SchemeMismatch, "scheme_mismatch")                                                          \
  X(PolicyDenied, "policy_denied")                                                              \
  X(ScopeDenied, "scope_denied")                                                                \
  /* heads */                                                                                   \
  X(StaleHead, "stale_head")              /* (epoch, beat) did not grow */                      \
  X(WrongStream, "wrong_stream")                                                                \
  X(ClockSkew, "clock_skew")                                                                    \
  /* serve socket */                                                                            \
  X(UnknownVerb, "unknown_verb")                                                                \
  X(Busy, "busy")                                                                               \
  X(NotHeld, "not_held")                                                                        \
  X(NotAllowed, "not_allowed")                                                                  \
  X(Unavailable, "unavailable")                                                                 \
  X(SourceCut, "source_cut")              /* too much from there did not prove its claim */     \
  /* submissions over HTTP */                                                                   \
  X(UnknownToken, "unknown_token")                                                              \
  X(BadContentType, "bad_content_type")                                                         \
  X(RateLimited, "rate_limited")          /* more in a second than this sender may */           \
  /* trees */                                                                                   \
  X(BadName, "bad_name")                  /* empty, ".", "..", "/" or NUL, or over 255 bytes */ \
  X(BadOrder, "bad_order")                /* names not strictly increasing */                   \
  X(BadMode, "bad_mode")                                                                        \
  X(BadTarget, "bad_target")              /* symlink target empty, too long, or with NUL */     \
  X(BadHash, "bad_hash")                  /* content or node does not have its named hash */    \
  X(BadCompression, "bad_compression")                                                          \
  X(SizeLie, "size_lie")                  /* decompresses to more or less than declared */      \
  X(MissingBase, "missing_base")                                                                \
  X(ForeignTree, "foreign_tree")          /* another tree id or publisher than the pinned one */ \
  X(Fork, "fork")                         /* same number, another record */                     \
  X(VersionRollback, "version_rollback")                                                        \
  X(MaxDelete, "max_delete")                                                                    \
  X(UnsafeTarget, "unsafe_target")        /* non-empty target without our state */              \
  X(ForbiddenAddress, "forbidden_address") /* a source where its namer must not send us */
// clang-format on

enum class Reject {
#define MIRRORBUS_REJECT_ENUM(name, text) name,
  MIRRORBUS_REJECTS(MIRRORBUS_REJECT_ENUM)
#undef MIRRORBUS_REJECT_ENUM
};

constexpr std::string_view to_string(Reject reject) noexcept {
  switch (reject) {
#define MIRRORBUS_REJECT_CASE(name, text) \
  case Reject::name:                      \
    return text;
    MIRRORBUS_REJECTS(MIRRORBUS_REJECT_CASE)
#undef MIRRORBUS_REJECT_CASE
  }
  return "unknown";
}

// What a decoder returns: the value, or why not. Decoders never throw.
template <class T>
using Decoded = std::expected<T, Reject>;

inline std::unexpected<Reject> refuse(Reject reject) { return std::unexpected(reject); }

}  // namespace mirrorbus::proto
