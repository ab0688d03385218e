// Byte strings put aside on disk while a tree is worked on, so that memory does not grow with the
// tree. A nameless file: it is gone with the process. One thread.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <cstdint>
#include <string>

namespace mirrorbus::tree {

class Spool {
 public:
  struct Slot {
    std::uint64_t at = 0;
    std::uint32_t size = 0;
  };
  // In directory `dir`, of which only the filesystem matters.
  explicit Spool(int dir);

  Slot put(proto::ByteView bytes);
  proto::Bytes get(Slot slot) const;

 private:
  static constexpr std::size_t kBuffer = 256 * 1024;
  base::Fd file_;
  std::uint64_t written_ = 0;
  proto::Bytes buffer_;  // what comes after `written_`
};

// All of `bytes` at `at`, or an exception naming `what`.
void write_all_at(int fd, proto::ByteView bytes, std::uint64_t at, const std::string& what);
// Exactly `size` bytes.
proto::Bytes read_exactly_at(int fd, std::size_t size, std::uint64_t at, const std::string& what);

}  // namespace mirrorbus::tree
