// Endpoints and host:port, as configured or named in credentials.
#include "bus/net/endpoint.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::view(data, size);
  if (const auto endpoint = net::parse_endpoint(text)) {
    (void)endpoint->is_literal();
    const auto again = net::parse_endpoint(endpoint->to_string());
    fuzz::require(again == endpoint, "what was written again is the same endpoint");
  }
  (void)net::parse_host_port(text);
  return 0;
}
