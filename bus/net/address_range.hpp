// IP addresses in ranges, as rules have them: "192.0.2.7", "10.0.0.0/8", "2001:db8::/32".
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

struct sockaddr;

namespace mirrorbus::net {

// IPv4 mapped into IPv6.
using Address = std::array<unsigned char, 16>;
std::optional<Address> parse_address(const std::string& text);
// Of an IPv4 or IPv6 socket address; nothing for another family's.
std::optional<Address> address_of(const sockaddr& address);
std::string to_text(const Address& address);
bool is_v4(const Address& address);

class AddressRange {
 public:
  static std::optional<AddressRange> parse(const std::string& text);
  bool contains(const Address& address) const;
  bool operator==(const AddressRange&) const = default;

 private:
  AddressRange(const Address& address, int bits) : address_(address), bits_(bits) {}
  Address address_;
  int bits_;  // how many of the leading ones count
};

// One of the ranges has it. An address that is none, of a local socket, is in every range; no range
// at all has every address.
bool any_contains(const std::vector<AddressRange>& ranges, const std::string& address);

// Addresses that somebody who has one of them usually has all of: an IPv4 address, or the 64 bits
// that a host's IPv6 network begins with. What is no address stands for itself.
std::string neighbourhood(const std::string& address);

}  // namespace mirrorbus::net
