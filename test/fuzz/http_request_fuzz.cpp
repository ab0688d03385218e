// The parts of an HTTP request that are read here: target, query, range, ETag list. A line each.
#include "bus/net/http_message.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest = fuzz::view(data, size);
  const auto line = [&rest] {
    const std::string_view text = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    return text;
  };
  if (const auto target = net::parse_target(line())) {
    fuzz::require(target->path.starts_with("/") && target->path.find('\0') == std::string::npos &&
                      (target->path + "/").find("/../") == std::string::npos &&
                      (target->path + "/").find("/./") == std::string::npos,
                  "a path is one below the root");
    net::HttpRequest request;
    request.query = target->query;
    (void)request.parameter("tree");
  }
  fuzz::Choices sizes(line());
  const std::uint64_t whole = sizes.number();
  net::ByteRange range{0, whole};
  if (net::choose_range(line(), whole, range) == net::RangeAnswer::Part)
    fuzz::require(range.length > 0 && range.first < whole && range.length <= whole - range.first,
                  "a part lies within the whole");
  const std::string_view etag = line();
  (void)net::etag_matches(line(), etag);
  (void)net::percent_decode(line(), true);
  return 0;
}
