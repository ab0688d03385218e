// The SHA-256 of a long stream of bytes, computed on a thread of its own while the caller writes
// them to a disk. Short ones are hashed where they are. One thread calls.
#pragma once

#include "proto/bytes.hpp"
#include "proto/sha256.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace mirrorbus::tree {

class SideHash {
 public:
  SideHash() = default;
  ~SideHash();
  SideHash(const SideHash&) = delete;
  SideHash& operator=(const SideHash&) = delete;

  // Waits while too much is queued: memory stays below 4 MiB.
  void update(proto::ByteView bytes);
  proto::Hash finish();  // once

 private:
  void pass_on();
  void run();
  void stop();

  proto::Sha256 hash_;      // the thread's while there is one
  std::uint64_t size_ = 0;  // of what was hashed here
  proto::Bytes gathered_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<proto::Bytes> queue_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace mirrorbus::tree
