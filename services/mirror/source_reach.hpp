// Where a content source may lead, by who named it: what an operator configures may be anything;
// who is met on the network may not send us to this host, its link, or a private network that is
// not his own as well. See docs/decisions/0030. A value; any thread.
#pragma once

#include "bus/net/address_kind.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

class SourceReach {
 public:
  SourceReach() = default;  // the public network
  // An operator's word, or what the origin signed itself.
  static SourceReach anywhere();
  // The word of who was met at `peer`: an address, or ":UID:GID:PID" of a local socket.
  static SourceReach named_at(const std::string& peer);
  // And in these ranges, as an operator says.
  SourceReach also(const std::vector<net::AddressRange>& ranges) const;

  // Named by several: what one of them may name.
  SourceReach& operator|=(const SourceReach& other);

  // `from`: the address that redirects to it. Who redirects may send us where he is himself, but an
  // operator's word is for the address that he wrote.
  bool allows(const net::Address& to, const std::optional<net::Address>& from) const;
  // The word of somebody else than an operator.
  bool handed_on() const { return !anywhere_; }

  bool operator==(const SourceReach&) const = default;

 private:
  static SourceReach from(net::AddressKind kind);
  bool has(net::AddressKind kind) const;

  bool anywhere_ = false, private_ = false, link_ = false, host_ = false;
  std::vector<net::AddressRange> ranges_;
};

}  // namespace mirrorbus::mirror
