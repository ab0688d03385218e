// Every maximum of the formats, in one place, for decoders and pages alike. Bytes unless named.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mirrorbus::proto {

inline constexpr std::size_t kMaxTopicSize = 255;
inline constexpr std::size_t kMaxTopicSegments = 32;
inline constexpr std::size_t kMaxEventSize = 64 * 1024;  // event bytes, body included
inline constexpr std::size_t kMaxBodyDepth = 16;
inline constexpr std::size_t kMaxMapEntries = 1024;      // in one map of a body or request
inline constexpr std::size_t kMaxBatchEvents = 256;
inline constexpr std::size_t kMaxBatchBytes = 1024 * 1024;  // closes a batch
inline constexpr std::size_t kMaxFrameSize = 128 * 1024;    // MAXMSGSIZE on PUB/SUB
inline constexpr std::size_t kMaxPathNodes = 8;             // ceil(log2(256))
inline constexpr std::size_t kMaxNameSize = 255;            // publisher names
inline constexpr std::size_t kMaxEndpointSize = 255;
inline constexpr std::size_t kMaxScopes = 64;
inline constexpr std::size_t kMaxEndpoints = 16;
inline constexpr std::size_t kMaxCredentialSize = 48 * 1024;  // document and signature
inline constexpr std::size_t kMaxSignatureSize = 4096;        // OpenPGP or X.509 signature
inline constexpr std::size_t kMaxHeadPairs = 64;
inline constexpr std::size_t kMaxRequestSize = 128 * 1024;      // one request on the serve socket
inline constexpr std::size_t kMaxAnswerBytes = 4 * 1024 * 1024;  // one answer on the serve socket
inline constexpr std::size_t kMaxRowSize = 2 * 1024 * 1024;      // one journal row in an answer
inline constexpr std::size_t kMaxAnswerParts = 4096;

inline constexpr std::size_t kMaxFileNameSize = 255;
inline constexpr std::size_t kMaxLinkTargetSize = 4095;
inline constexpr std::size_t kMaxPathSize = 4095;  // a path below a tree's root

}  // namespace mirrorbus::proto
