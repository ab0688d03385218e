// System calls on one name in one open directory, the only way this program changes a tree.
//
// A name is a single component; the directory is a descriptor the caller got from RootDir, so no
// path is ever walked here and no symlink ever followed: whatever an attacker swaps in under a name
// is itself what gets looked at, changed, replaced or removed. An empty name means the directory
// itself.
//
// Errors are std::system_error with the call and the name. Stateless but for the probe: any thread.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>

namespace mirrorbus::tree {

// What tests hand in to see, to break or to stop the work at a chosen point. Called by one thread at
// a time, but not always by the same; it may throw, or never return.
class Probe {
 public:
  enum class Step {
    Planned,  // nothing changed yet
    Staged,   // contents are in staging and on disk; the tree is still as it was
    Applied,  // the tree was changed, not yet checked
    Checked,  // and found good, on disk, not yet committed
    Committed,
  };
  virtual ~Probe() = default;
  virtual void step(Step) {}
  virtual void mutating(const char* call, const proto::Bytes& name) {
    (void)call;
    (void)name;
  }

 private:
  friend class EntryOps;
  std::mutex mutex_;
};

class EntryOps {
 public:
  explicit EntryOps(Probe* probe = nullptr) : probe_(probe) {}

  // Nothing if there is no such name.
  std::optional<struct stat> look(int dir, const proto::Bytes& name) const;
  // Of a symlink.
  proto::Bytes read_link(int dir, const proto::Bytes& name) const;
  // Names in the directory, unsorted, without "." and "..".
  std::vector<proto::Bytes> list(int dir) const;

  void set_owner(int dir, const proto::Bytes& name, uid_t uid, gid_t gid) const;
  // Not on a symlink: EOPNOTSUPP.
  void set_mode(int dir, const proto::Bytes& name, mode_t mode) const;
  void set_mtime(int dir, const proto::Bytes& name, std::int64_t s, std::uint32_t ns) const;

  void make_directory(int dir, const proto::Bytes& name, mode_t mode) const;
  // False: there is something of this name.
  bool make_new_directory(int dir, const proto::Bytes& name, mode_t mode) const;
  void make_symlink(const proto::Bytes& target, int dir, const proto::Bytes& name) const;
  void make_node(int dir, const proto::Bytes& name, mode_t type_and_mode, dev_t device) const;
  void link(int from, const proto::Bytes& name, int to, const proto::Bytes& new_name) const;
  // Over whatever non-directory is there. Afterwards the old name is gone, also where both names
  // were links to one inode (rename(2) does nothing then).
  void replace(int from, const proto::Bytes& name, int to, const proto::Bytes& new_name) const;
  // The same for an inode of one name.
  void move(int from, const proto::Bytes& name, int to, const proto::Bytes& new_name) const;
  void move_new(int from, const proto::Bytes& name, int to, const proto::Bytes& new_name) const;
  void exchange(int from, const proto::Bytes& name, int to, const proto::Bytes& new_name) const;
  // False if there was no such name.
  bool unlink(int dir, const proto::Bytes& name) const;
  bool remove_directory(int dir, const proto::Bytes& name) const;
  // Whatever it is, with everything below it, but not across a mount point. False if it was not
  // there. Directories the caller may not write to are made writable first.
  bool remove_all(int dir, const proto::Bytes& name) const;

  void mutating(const char* call, const proto::Bytes& name) const {
    if (!probe_) return;
    const std::lock_guard lock(probe_->mutex_);
    probe_->mutating(call, name);
  }
  void step(Probe::Step step) const {
    if (probe_) probe_->step(step);
  }

 private:
  Probe* probe_;
};

}  // namespace mirrorbus::tree
