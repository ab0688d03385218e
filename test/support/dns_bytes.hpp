// DNS replies made by hand, right or wrong.
#pragma once

#include "proto/wire.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::test {

inline proto::Bytes dns_name(std::string_view dotted) {
  proto::Bytes out;
  while (!dotted.empty() && dotted != ".") {
    const std::string_view label = dotted.substr(0, dotted.find('.'));
    proto::Writer(out).short_string(label);
    dotted.remove_prefix(std::min(dotted.size(), label.size() + 1));
  }
  return out + '\0';
}

inline proto::Bytes dns_record(std::string_view name, std::uint16_t type, std::uint32_t ttl,
                               const proto::Bytes& data) {
  proto::Bytes out = dns_name(name);
  proto::Writer(out)
      .u16(type)
      .u16(1)
      .u32(ttl)
      .u16(static_cast<std::uint16_t>(data.size()))
      .raw(data);
  return out;
}

inline proto::Bytes dns_srv(std::string_view name, std::uint32_t ttl, std::uint16_t priority,
                            std::uint16_t weight, std::uint16_t port, std::string_view target) {
  proto::Bytes data;
  proto::Writer(data).u16(priority).u16(weight).u16(port).raw(dns_name(target));
  return dns_record(name, 33, ttl, data);
}

inline proto::Bytes dns_soa(std::string_view name, std::uint32_t ttl, std::uint32_t minimum) {
  proto::Bytes data = dns_name("ns." + std::string(name)) + dns_name("admin." + std::string(name));
  proto::Writer(data).u32(1).u32(2).u32(3).u32(4).u32(minimum);
  return dns_record(name, 6, ttl, data);
}

struct DnsReply {
  std::uint16_t id = 7;
  std::uint16_t rcode = 0;
  proto::Bytes question;  // name, type, class; one or none
  std::vector<proto::Bytes> answers, authorities;

  proto::Bytes bytes() const {
    proto::Bytes out;
    proto::Writer(out)
        .u16(id)
        .u16(static_cast<std::uint16_t>(0x8180 | rcode))
        .u16(question.empty() ? 0 : 1)
        .u16(static_cast<std::uint16_t>(answers.size()))
        .u16(static_cast<std::uint16_t>(authorities.size()))
        .u16(0)
        .raw(question);
    for (const auto* const section : {&answers, &authorities})
      for (const proto::Bytes& record : *section) out += record;
    return out;
  }
};

}  // namespace mirrorbus::test
