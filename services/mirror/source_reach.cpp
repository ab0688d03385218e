#include "services/mirror/source_reach.hpp"

#include <algorithm>

namespace mirrorbus::mirror {

using net::AddressKind;

SourceReach SourceReach::anywhere() {
  SourceReach reach;
  reach.anywhere_ = true;
  return reach;
}

SourceReach SourceReach::from(AddressKind kind) {
  SourceReach reach;
  reach.link_ = kind == AddressKind::LinkLocal;
  reach.host_ = kind == AddressKind::ThisHost;
  // A daemon beside ours reaches what we reach.
  reach.private_ = kind == AddressKind::Private || kind == AddressKind::ThisHost;
  return reach;
}

SourceReach SourceReach::named_at(const std::string& peer) {
  if (peer.starts_with(':') && !net::parse_address(peer)) return from(AddressKind::ThisHost);
  const auto address = net::parse_address(peer);
  return address ? from(net::kind_of(*address)) : SourceReach();
}

SourceReach SourceReach::also(const std::vector<net::AddressRange>& ranges) const {
  SourceReach reach = *this;
  reach.ranges_ = ranges;
  return reach;
}

SourceReach& SourceReach::operator|=(const SourceReach& other) {
  anywhere_ |= other.anywhere_;
  private_ |= other.private_;
  link_ |= other.link_;
  host_ |= other.host_;
  for (const net::AddressRange& range : other.ranges_)
    if (std::ranges::find(ranges_, range) == ranges_.end()) ranges_.push_back(range);
  return *this;
}

bool SourceReach::has(AddressKind kind) const {
  switch (kind) {
    case AddressKind::Public: return true;
    case AddressKind::Private: return private_;
    case AddressKind::LinkLocal: return link_;
    case AddressKind::ThisHost: return host_;
    case AddressKind::Never: break;
  }
  return false;
}

bool SourceReach::allows(const net::Address& to, const std::optional<net::Address>& by) const {
  if (anywhere_ && !by) return true;
  if (std::ranges::any_of(ranges_, [&](const auto& range) { return range.contains(to); }))
    return true;
  const AddressKind kind = net::kind_of(to);
  return has(kind) || (by && from(net::kind_of(*by)).has(kind));
}

}  // namespace mirrorbus::mirror
