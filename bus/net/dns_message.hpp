// Raw DNS replies (RFC 1035), as far as c-ares leaves reading them to us: its structures for SRV
// have no TTL, and it does not read the SOA of a negative answer.
#pragma once

#include "bus/net/srv.hpp"
#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace mirrorbus::net {

inline constexpr std::size_t kMaxSrvRecords = 1024;

struct SrvReply {
  std::uint8_t rcode = 0;
  std::vector<SrvRecord> records;  // without addresses
  std::uint32_t ttl_s = 0;         // the least in the answer section
  // How long "there is none" holds: the SOA's TTL or its MINIMUM, the lesser (RFC 2308 §5).
  std::optional<std::uint32_t> negative_ttl_s;
};

// Truncated, BadField or TooLarge for what is no reply.
proto::Decoded<SrvReply> parse_srv_reply(proto::ByteView bytes);

}  // namespace mirrorbus::net
