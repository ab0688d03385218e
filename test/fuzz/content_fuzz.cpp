// A request for contents; the stream of an answer, in pieces of any size.
#include "proto/content.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const proto::ByteView bytes = fuzz::view(data, size);
  fuzz::canonical(bytes, proto::decode_content_request, proto::encode_content_request);

  // Taken in pieces and written again it is the same stream.
  proto::Bytes again;
  std::uint64_t expected = 0;
  bool open = false;
  proto::ContentParser parser({
      .on_begin =
          [&](const proto::Hash& hash, std::uint64_t length) {
            fuzz::require(!open, "a content ends before the next begins");
            proto::append_content_header(again, hash, expected = length);
            open = true;
          },
      .on_bytes =
          [&](proto::ByteView piece) {
            fuzz::require(open && piece.size() <= expected, "no more comes than was said");
            expected -= piece.size();
            again += piece;
          },
      .on_end =
          [&] {
            fuzz::require(std::exchange(open, false) && expected == 0, "all comes that was said");
          },
      .on_gone = [&](const proto::Hash& hash) { proto::append_content_gone(again, hash); },
  });
  for (std::size_t at = 0, step = 1; at < bytes.size(); at += step, step = step * 2 % 61 + 1)
    if (parser.feed(bytes.substr(at, step))) return 0;
  fuzz::require(!parser.at_boundary() || again == bytes, "what was taken is what came");
  return 0;
}
