// The records of a node frame.
#include "proto/pack.hpp"
#include "test/fuzz/fuzz.hpp"

using namespace mirrorbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = [](proto::ByteView bytes) {
    std::optional<std::vector<std::pair<proto::Bytes, proto::Bytes>>> records(std::in_place);
    proto::NodeRecordReader reader(bytes);
    proto::Bytes path;
    proto::ByteView node;
    while (reader.next(path, node)) {
      fuzz::require(path.empty() || proto::valid_tree_path(path), "a record has a path");
      records->emplace_back(path, node);
    }
    if (reader.failure()) records.reset();
    return records;
  };
  const auto write = [](const auto& records) {
    proto::Bytes out;
    proto::NodeRecordWriter writer(out);
    for (const auto& [path, node] : records) writer.add(path, node);
    return out;
  };
  fuzz::round_trip(fuzz::view(data, size), read, write);
  return 0;
}
