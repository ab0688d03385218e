// What test/support/disk_recorder.cpp wrote down of a disk, and the disk as it may be found after a
// power cut at any moment.
//
// LOG is records: a byte 'w' (write), 'f' (flush) or 'm' (mark), offset and size as 64-bit numbers of
// this machine, then `size` bytes.
#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace mirrorbus::test {

struct BlockRecord {
  char kind = 0;
  std::uint64_t offset = 0;
  std::string data;
};

inline std::vector<BlockRecord> read_block_log(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("no log " + path);
  std::vector<BlockRecord> records;
  BlockRecord record;
  std::uint64_t size = 0;
  while (in.get(record.kind)) {
    in.read(reinterpret_cast<char*>(&record.offset), sizeof record.offset);
    in.read(reinterpret_cast<char*>(&size), sizeof size);
    record.data.resize(size);
    if (!in.read(record.data.data(), static_cast<std::streamsize>(size)) && size > 0)
      throw std::runtime_error("the log " + path + " is cut short");
    records.push_back(record);
  }
  return records;
}

// The disk, block by block; what was never written is zero.
class DiskImage {
 public:
  static constexpr std::uint64_t kBlock = 4096;
  using Blocks = std::map<std::uint64_t, std::array<char, kBlock>>;

  // `keep`: decides for each block of the write whether it reached the disk.
  template <class Keep>
  void write(const BlockRecord& record, Keep keep) {
    for (std::uint64_t done = 0; done < record.data.size();) {
      const std::uint64_t at = record.offset + done, block = at / kBlock, start = at % kBlock;
      const std::uint64_t n = std::min<std::uint64_t>(kBlock - start, record.data.size() - done);
      if (keep()) {
        auto& bytes = blocks_.try_emplace(block, std::array<char, kBlock>{}).first->second;
        std::copy_n(record.data.data() + done, n, bytes.data() + start);
      }
      done += n;
    }
  }
  void write(const BlockRecord& record) {
    write(record, [] { return true; });
  }
  const Blocks& blocks() const { return blocks_; }

 private:
  Blocks blocks_;
};

// Goes through a log and says what is on the disk if the power fails before record `at`.
class PowerCuts {
 public:
  explicit PowerCuts(const std::vector<BlockRecord>& log) : log_(log) {}

  // `at` must not go back. `seed` 0: all that was written is there, in order. Else what was written
  // after the last flush is there or not, block by block, as the seed says.
  DiskImage cut(std::size_t at, std::uint64_t seed) {
    for (; next_ < at; ++next_) {
      if (log_[next_].kind == 'w') unflushed_.push_back(next_);
      if (log_[next_].kind != 'f') continue;
      for (const std::size_t each : unflushed_) flushed_.write(log_[each]);
      unflushed_.clear();
    }
    DiskImage image = flushed_;
    std::mt19937_64 random(seed);
    for (const std::size_t each : unflushed_)
      image.write(log_[each], [&] { return seed == 0 || random() % 2 == 0; });
    return image;
  }

 private:
  const std::vector<BlockRecord>& log_;
  std::size_t next_ = 0;
  std::vector<std::size_t> unflushed_;
  DiskImage flushed_;
};

}  // namespace mirrorbus::test
