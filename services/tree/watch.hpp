// Hears that something changed in a tree. What is heard are hints, never truth: they say which
// directories to look at again, and lstat says what is there.
//
// One thread at a time. fd() becomes readable when drain() has something.
#pragma once

#include "proto/bytes.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::tree {

// What to look at again, paths below the root.
struct Dirty {
  bool all = false;                       // events were lost: everything
  std::vector<proto::Bytes> directories;  // these themselves
  std::vector<proto::Bytes> trees;        // new ones, with everything below

  bool any() const { return all || !directories.empty() || !trees.empty(); }
  void add(Dirty more);
  void sort();  // each path once
};

class Watch {
 public:
  virtual ~Watch() = default;
  virtual int fd() const = 0;
  // All that is there to be read. Throws std::system_error if the kernel's queue cannot be read.
  virtual Dirty drain() = 0;
  // Directories that are not heard of (the system's limit): what changes there is found by scans
  // only.
  virtual std::uint64_t unwatched() const { return 0; }
};

enum class WatchKind {
  Auto,      // fanotify, else inotify
  Fanotify,  // one mark for the filesystem; needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH
  Inotify,   // one watch a directory
  None,      // nothing is heard
};
std::string_view to_string(WatchKind kind);
std::optional<WatchKind> watch_kind(std::string_view name);  // "auto", "fanotify", …

struct Watching {
  std::unique_ptr<Watch> watch;  // empty: None
  WatchKind kind = WatchKind::None;
  std::string reason;  // why not fanotify, where that was asked for or tried
};

// `skip`: directories not to hear of (the work folder, what is excluded), with all below them.
// `one_file_system`: other filesystems mounted below the root are no part of the tree. Throws
// std::system_error if the root cannot be watched in the way asked for.
using SkipDirectory = std::function<bool(const proto::Bytes& path)>;
Watching watch_tree(const std::string& root, SkipDirectory skip, WatchKind kind,
                    bool one_file_system);

// Which directory a path is now: the same again only if it is the same inode of the same mount.
struct RootPlace {
  std::uint64_t device = 0, inode = 0, mount = 0;  // all 0: there is none
  static RootPlace of(const std::string& path);
  bool operator==(const RootPlace&) const = default;
};

}  // namespace mirrorbus::tree
