// What kind of place an address leads to, as it matters when somebody else names it: the public
// network, a network of one's own, the link, or this very host.
#pragma once

#include "bus/net/address_range.hpp"

#include <string_view>

namespace mirrorbus::net {

enum class AddressKind {
  Public,
  Private,    // RFC 1918, RFC 6598 (carriers, overlay networks), unique local IPv6
  LinkLocal,  // of the link; and where clouds have the services that tell a host its secrets
  ThisHost,   // loopback, the unspecified address, and every address that an interface here has
  Never,      // multicast and reserved: nothing is connected to there
};
// IPv4 inside IPv6 (mapped, NAT64, 6to4) is what that IPv4 address is. Asks the kernel for the
// addresses of this host; throws std::system_error if it does not say.
AddressKind kind_of(const Address& address);
std::string_view to_string(AddressKind kind) noexcept;  // for people

}  // namespace mirrorbus::net
