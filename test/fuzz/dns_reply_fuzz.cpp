// A raw DNS reply, and the order of the servers in it.
#include "bus/net/dns_message.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto reply = net::parse_srv_reply(fuzz::view(data, size));
  if (!reply) return 0;
  std::uint64_t draws = 0;
  const auto drawn = [&](std::uint64_t most) {
    return most == 0 ? 0 : ++draws * 7919 % (most + 1);
  };
  const auto ordered = net::order_srv(reply->records, drawn);
  fuzz::require(ordered.size() == reply->records.size(), "no server is lost");
  for (std::size_t i = 1; i < ordered.size(); ++i)
    fuzz::require(ordered[i - 1].priority <= ordered[i].priority, "the lower priority comes first");
  return 0;
}
