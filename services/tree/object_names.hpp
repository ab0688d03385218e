// The names in the content store: where the object of a content lies.
//
// FIRST/HASH, FIRST being the hash's first byte; or second/FIRST/HASH, for what is there again under
// another inode while the first name still has the old one: taking a second name is one call, where
// to exchange inodes under one name is two and a lock on the whole filesystem. The inode that nothing
// but the store has is dropped when there is time (`settle`); which one that is shows in its number of
// links, so nothing need be remembered over a crash.
//
// find(), link(), supersede() and remove_inode() may be called from several threads; the rest from one, when no
// other call is under way.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/bytes.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>

namespace mirrorbus::tree {

class ObjectNames {
 public:
  static constexpr const char* kSecond = "second";

  enum class Place { First, Second };
  static std::string path(const proto::Hash& hash, Place place = Place::First);

  // In the directory `folder`, which outlives this.
  explicit ObjectNames(int folder);

  struct Found {
    Place place;
    struct stat st;
  };
  std::optional<Found> find(const proto::Hash& hash) const;
  // Whether some object may have a second name: then looking is what tells whether there is one.
  bool any_second() const { return any_second_; }
  base::Fd open(const proto::Hash& hash) const;

  // Gives the file behind `fd` that name. An errno if it cannot be had, EEXIST among them.
  int link(int fd, const proto::Hash& hash, Place place);
  // Gives the file of `dir` the object's first name, instead of what has it. Throws.
  void move(int dir, const std::string& name, const proto::Hash& hash);
  // Whether one of its names is this inode.
  bool is(const proto::Hash& hash, const struct stat& inode) const;
  // Gives the file behind `fd`, which is `inode`, the name that `found`, an inode nobody else has, does
  // not have, unless it has it. False if it cannot be had.
  bool supersede(int fd, const struct stat& inode, const proto::Hash& hash, const Found& found);

  void remove(const proto::Hash& hash);
  // Those of its names which are of this inode.
  void remove_inode(const proto::Hash& hash, const struct stat& inode);

  // Frees superseded inodes, looking at up to `limit` objects. Whether there is more to look at. (Not
  // done at once: it is slow where the filesystem discards blocks as it frees them. 1.2 GB took longer
  // than hashing it.)
  bool settle(std::size_t limit);

  // Every object once or twice; `visit` may remove.
  void each(const std::function<void(const proto::Hash&)>& visit) const;

 private:
  std::optional<struct stat> look(const proto::Hash& hash, Place place) const;
  void settle(const proto::Hash& hash);

  int folder_;
  std::mutex both_;  // who finds both names taken
  std::atomic<bool> any_second_ = false;
  std::array<std::atomic<bool>, 256> unsettled_{};  // by first byte
  std::vector<proto::Hash> settling_;               // of one first byte
};

}  // namespace mirrorbus::tree
