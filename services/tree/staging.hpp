// The staging directory in the work folder: inodes being made ready, so that each gets into the
// tree by one rename. Names say what is known of what they name:
//
//   c<hash>.<n>  a file with that content, and never written again; shorter than it: not written to
//                the end. It was hashed before (small ones) or it got this name
//   l<hash>.<n>  a link to an inode of the tree that had that content
//   n<n>         a symlink, a device, an empty file: cheaper made again than kept
//   p<hash>      the beginning of a large file whose transfer was cut off
//   w<n>         a file being written
//   x<n>         a directory that was taken out of the tree, to be removed
//
// What a c name says holds as long as this boot: a rename can be on disk before the bytes are, so
// after a reboot contents are hashed again before they are used. One thread, but for StagedFile.
#pragma once

#include "proto/bytes.hpp"
#include "services/tree/content_source.hpp"
#include "services/tree/entry_ops.hpp"
#include "services/tree/side_hash.hpp"

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bus/base/fd.hpp"

namespace mirrorbus::tree {

class Staging {
 public:
  // In the work folder `work`; made if need be. `boot`: as current_boot().
  Staging(int work, const EntryOps& ops, std::string boot);

  int dir() const { return dir_.get(); }
  const EntryOps& ops() const { return ops_; }

  // Looks through what an earlier run left and removes what is of no use. Contents that are left
  // may be claimed, once each, by their hash: the number of the c name.
  void sort_leftovers();
  // What the last run left was left since the machine was started: sort_leftovers() found so.
  bool left_in_this_boot() const { return left_in_this_boot_; }
  std::optional<std::uint32_t> claim(const Wanted& content);
  // Whether a transfer of it that was cut off has left something.
  bool has_part(const proto::Hash& hash) const;

  // Stages a content that was hashed already, at one go; the number of its c name. Any thread.
  std::uint32_t put(const proto::Hash& hash, proto::ByteView content);

  std::uint32_t next_number() { return next_.fetch_add(1, std::memory_order_relaxed); }
  static proto::Bytes content_name(const proto::Hash& hash, std::uint32_t number);
  static proto::Bytes link_name(const proto::Hash& hash, std::uint32_t number);
  static proto::Bytes other_name(std::uint32_t number);
  static proto::Bytes partial_name(const proto::Hash& hash);
  static proto::Bytes trash_name(std::uint32_t number);

  // Everything, leftovers included.
  void clear();

 private:
  bool same_boot() const;
  void note_boot();
  bool keep_content(const proto::Bytes& name, const proto::Hash& hash, bool verified);

  const EntryOps& ops_;
  std::string boot_;
  base::Fd dir_;
  bool left_in_this_boot_ = false;
  std::atomic<std::uint32_t> next_{1};
  std::unordered_map<proto::Hash, std::vector<std::uint32_t>> leftovers_;
};

// A content being written to staging, hashed on the way. It gets its name when all of it has come
// and is what it was said to be; until then it is nobody's and is removed with this object.
class StagedFile {
 public:
  // `partial`: go on from what a cut-off transfer left, if anything; see offset().
  StagedFile(Staging& staging, const Wanted& wanted, bool partial = false);
  ~StagedFile();
  StagedFile(const StagedFile&) = delete;
  StagedFile& operator=(const StagedFile&) = delete;

  std::uint64_t offset() const { return size_; }  // bytes that are there
  // Shares the blocks of the open file `from` (a reflink), and hashes them. False where that cannot
  // be done; then nothing has happened.
  bool clone(int from);
  // False if it would become larger than it may; then nothing is kept.
  bool write(proto::ByteView bytes);
  // The number of its c name; nothing if hash or size are wrong.
  std::optional<std::uint32_t> finish();

 private:
  void discard();
  void hash_what_is_there();

  Staging& staging_;
  Wanted wanted_;
  bool partial_;
  proto::Bytes name_;
  base::Fd fd_;
  SideHash hash_;
  std::uint64_t size_ = 0;
  std::uint64_t told_ = 0;  // of it, which the disk has been told to write
};

}  // namespace mirrorbus::tree
