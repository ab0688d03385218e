// IP addresses in ranges, as rules have them: "192.0.2.7", "10.0.0.0/8", "2001:db8::/32".
#pragma once

#include <array>
#include <optional>
#include <string>

namespace mirrorbus::relay {

// IPv4 mapped into IPv6.
using Address = std::array<unsigned char, 16>;
std::optional<Address> parse_address(const std::string& text);
bool is_v4(const Address& address);

class AddressRange {
 public:
  static std::optional<AddressRange> parse(const std::string& text);
  bool contains(const Address& address) const;

 private:
  AddressRange(const Address& address, int bits) : address_(address), bits_(bits) {}
  Address address_;
  int bits_;  // how many of the leading ones count
};

// Addresses that somebody who has one of them usually has all of: an IPv4 address, or the 64 bits
// that a host's IPv6 network begins with. What is no address stands for itself.
std::string neighbourhood(const std::string& address);

}  // namespace mirrorbus::relay
