#include "bus/net/address_kind.hpp"

#include "bus/base/fd.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include <ifaddrs.h>
#include <netinet/in.h>

namespace mirrorbus::net {
namespace {

struct Rule {
  const char* range;
  AddressKind kind;
};
// The first that fits.
constexpr Rule kRules[] = {
    {"0.0.0.0/8", AddressKind::ThisHost},
    {"127.0.0.0/8", AddressKind::ThisHost},
    {"::/127", AddressKind::ThisHost},
    {"169.254.0.0/16", AddressKind::LinkLocal},
    {"fe80::/10", AddressKind::LinkLocal},
    // Metadata services that are not at 169.254.0.0/16.
    {"100.100.100.200", AddressKind::LinkLocal},
    {"168.63.129.16", AddressKind::LinkLocal},
    {"192.0.0.0/24", AddressKind::LinkLocal},
    {"fd00:ec2::/32", AddressKind::LinkLocal},
    {"10.0.0.0/8", AddressKind::Private},
    {"172.16.0.0/12", AddressKind::Private},
    {"192.168.0.0/16", AddressKind::Private},
    {"100.64.0.0/10", AddressKind::Private},
    {"fc00::/7", AddressKind::Private},
    {"fec0::/10", AddressKind::Private},
    {"224.0.0.0/3", AddressKind::Never},
    {"ff00::/8", AddressKind::Never},
    {"::/96", AddressKind::Never},  // IPv4 "compatible": nobody routes it
};

AddressKind by_range(const Address& address) {
  static const auto ranges = [] {
    std::vector<AddressRange> all;
    for (const Rule& rule : kRules) all.push_back(*AddressRange::parse(rule.range));
    return all;
  }();
  for (std::size_t i = 0; i < ranges.size(); ++i)
    if (ranges[i].contains(address)) return kRules[i].kind;
  return AddressKind::Public;
}

// The IPv4 address that a gateway makes of it.
std::optional<Address> carried(const Address& address) {
  constexpr unsigned char kNat64[12] = {0, 0x64, 0xff, 0x9b};
  Address inner{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::memcmp(address.data(), kNat64, sizeof kNat64) == 0)
    std::copy_n(address.begin() + 12, 4, inner.begin() + 12);
  else if (address[0] == 0x20 && address[1] == 0x02)
    std::copy_n(address.begin() + 2, 4, inner.begin() + 12);
  else
    return std::nullopt;
  return inner;
}

bool is_own(const Address& address) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) base::throw_errno("asking for the addresses of this host");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owned(list, &::freeifaddrs);
  for (const ifaddrs* each = list; each; each = each->ifa_next)
    if (each->ifa_addr && address_of(*each->ifa_addr) == address) return true;
  return false;
}

}  // namespace

AddressKind kind_of(const Address& address) {
  if (is_own(address)) return AddressKind::ThisHost;
  if (const auto inner = carried(address)) return kind_of(*inner);
  return by_range(address);
}

std::string_view to_string(AddressKind kind) noexcept {
  switch (kind) {
    case AddressKind::Public: return "public";
    case AddressKind::Private: return "private";
    case AddressKind::LinkLocal: return "link-local";
    case AddressKind::ThisHost: return "this host's own";
    case AddressKind::Never: break;
  }
  return "nobody's";
}

}  // namespace mirrorbus::net
