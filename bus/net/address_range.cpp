#include "bus/net/address_range.hpp"

#include "proto/bytes.hpp"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace mirrorbus::net {
namespace {

constexpr Address kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int kMappedBits = 96;

}  // namespace

std::optional<Address> parse_address(const std::string& text) {
  Address address = kMapped;
  if (inet_pton(AF_INET, text.c_str(), address.data() + kMappedBits / 8) == 1) return address;
  // "fe80::1%eth0": the interface is no part of it.
  if (inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), address.data()) == 1)
    return address;
  return std::nullopt;
}

std::optional<Address> address_of(const sockaddr& any) {
  Address address = kMapped;
  if (any.sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &any, sizeof v4);
    std::memcpy(address.data() + kMappedBits / 8, &v4.sin_addr, sizeof v4.sin_addr);
    return address;
  }
  if (any.sa_family != AF_INET6) return std::nullopt;
  sockaddr_in6 v6;
  std::memcpy(&v6, &any, sizeof v6);
  std::memcpy(address.data(), &v6.sin6_addr, address.size());
  return address;
}

std::string to_text(const Address& address) {
  char text[INET6_ADDRSTRLEN];
  if (is_v4(address))
    return ::inet_ntop(AF_INET, address.data() + kMappedBits / 8, text, sizeof text);
  return ::inet_ntop(AF_INET6, address.data(), text, sizeof text);
}

bool is_v4(const Address& address) {
  return std::equal(kMapped.begin(), kMapped.begin() + kMappedBits / 8, address.begin());
}

std::optional<AddressRange> AddressRange::parse(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::string written = text.substr(0, slash);
  const auto address = parse_address(written);
  if (!address || written.find('%') != std::string::npos) return std::nullopt;
  // As written: "::ffff:0:0/96" is a range of IPv6.
  const bool v4 = written.find(':') == std::string::npos;
  const int most = v4 ? 32 : 128;
  int bits = most;
  if (slash != std::string::npos) {
    const std::string digits = text.substr(slash + 1);
    if (digits.empty() || digits.size() > 3 ||
        !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; }))
      return std::nullopt;
    bits = std::stoi(digits);
    if (bits > most) return std::nullopt;
  }
  return AddressRange(*address, v4 ? bits + kMappedBits : bits);
}

bool AddressRange::contains(const Address& address) const {
  const auto whole = static_cast<std::size_t>(bits_ / 8);
  const int rest = bits_ % 8;
  if (std::memcmp(address_.data(), address.data(), whole) != 0) return false;
  if (rest == 0) return true;
  const auto mask = static_cast<unsigned char>(0xff << (8 - rest));
  return (address_[whole] & mask) == (address[whole] & mask);
}

bool any_contains(const std::vector<AddressRange>& ranges, const std::string& address) {
  const auto parsed = parse_address(address);
  return ranges.empty() || !parsed ||
         std::ranges::any_of(ranges, [&](const auto& range) { return range.contains(*parsed); });
}

std::string neighbourhood(const std::string& address) {
  const auto parsed = parse_address(address);
  if (!parsed || is_v4(*parsed)) return address;
  return proto::to_hex({reinterpret_cast<const char*>(parsed->data()), 8}) + "/64";
}

}  // namespace mirrorbus::net
