// What the origin keeps of file contents, by their SHA-256: bases for patches, and bytes to serve of
// versions that the tree has moved past.
//
// An object is a second name of the live file (hardlink: no bytes, but an in-place writer changes
// both), a clone of it (reflink), a copy, or nothing. So what an object holds is believed only after
// hashing it; a hash that no longer fits removes it. Where they lie: object_names.hpp.
//
// hold() may be called from several threads, each with its own `worker` number; the rest from one.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"
#include "services/tree/object_names.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <sys/stat.h>

namespace mirrorbus::tree {

enum class StoreKind { Auto, Reflink, Hardlink, Copy, None };
// "auto", "reflink", "hardlink", "copy", "none"; nothing for anything else.
std::optional<StoreKind> store_kind(std::string_view name);
std::string_view to_string(StoreKind kind);

// What came of reading a live file.
struct HoldResult {
  enum class State {
    Held,        // hashed, and an object of this content is there
    Hashed,      // hashed; not held (store none, or the link was refused)
    Vanished,    // no longer there
    NotAFile,    // now something else
    Unreadable,  // `error`
    Unstable,    // changed while it was read, several times
  };
  State state = State::Vanished;
  proto::Hash hash;
  struct stat st {};    // as it was left
  timespec found{};     // its ctime before a link of ours moved it
  bool linked = false;  // the object is this very inode
  bool known = false;   // the content had been held before, or nobody can say
  bool late = false;    // the object is another inode, and should be this one: hold_hashed()
  bool bare = false;    // had no extended attributes after `st` was taken
  int error = 0;
};

class ContentStore {
 public:
  static constexpr unsigned kWorkers = 8;

  // In directory `folder`, for files of the tree at `tree_path`. Auto tries a clone and a link of a
  // real file of the tree (any regular file near the root) and takes the first that works, else
  // None. A kind asked for by name that does not work throws std::runtime_error.
  ContentStore(const std::string& folder, const std::string& tree_path, StoreKind wanted);

  StoreKind kind() const { return kind_; }
  // How the choice came about, for the log.
  const std::string& reason() const { return reason_; }

  // Hashes the file and holds its content. `before`: what was known of this file. If that is the
  // inode and it has another content now, it was written in place, and the object is no longer what
  // it says; if it is another inode that was `held` and the content is the same, that is enough.
  struct Before {
    proto::Hash hash;
    std::uint64_t dev = 0, ino = 0;
    bool held = false;
  };
  HoldResult hold(int dir, const proto::Bytes& name, unsigned worker,
                  const std::optional<Before>& before = {});

  // Makes the file behind `fd` the object of a content it is known to have, in place of an inode that
  // only the store has. `st`: what it looks like.
  HoldResult hold_hashed(int fd, const struct stat& st, const proto::Hash& hash);

  bool has(const proto::Hash& hash) const;
  // The content, hashed; nothing if it is not held or not what it should be (then it is dropped).
  std::optional<proto::Bytes> read(const proto::Hash& hash, std::uint64_t size);
  // For serving: opened for reading, not hashed.
  base::Fd open(const proto::Hash& hash) const;
  void drop(const proto::Hash& hash);

  // Frees inodes of ours that a live file has taken the place of, looking at up to `limit` objects.
  // Whether there are more to look at.
  bool sweep(std::size_t limit) { return names_->settle(limit); }

  // Calls `visit` for every object, for some twice; it may drop.
  void each(const std::function<void(const proto::Hash&)>& visit) const;

 private:
  bool works(StoreKind kind, const std::string& tree_path, std::string& why);
  HoldResult hold_link(int dir, const proto::Bytes& name, const std::optional<Before>& before);
  HoldResult hold_copy(int dir, const proto::Bytes& name, unsigned worker);
  static HoldResult hash_only(int dir, const proto::Bytes& name, base::Fd& fd);
  static bool look_once_more(int fd, HoldResult& result);
  HoldResult hold_read(int fd, bool expected, HoldResult result);
  bool take_link(int fd, bool expected, HoldResult& result);
  void remove(const std::string& name) const;
  void remove_leftovers(unsigned worker);

  std::string folder_;
  base::Fd objects_;  // all names are below it
  std::optional<ObjectNames> names_;
  // Temporary names are numbers in a directory for each worker, so that they do not wait for one
  // another's. The next one.
  std::array<std::uint64_t, kWorkers> next_{};
  StoreKind kind_ = StoreKind::None;
  std::string reason_;
};

}  // namespace mirrorbus::tree
