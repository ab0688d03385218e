// Finds out what a tree is now, and writes what differs into the index's pending layer.
//
// Truth is lstat: an entry is as it was if device, inode, size, mtime, ctime, mode and owner are
// (not the link count: our store's links move it), and if it was not read too soon after a change.
// Everything else is looked into and, if it is a file, hashed and held. What cannot be read is not
// deleted: it keeps its previous entry and is reported. A tree whose root is gone or empty is left
// as it was.
//
// Blocking; one thread besides the caller's hashes. Errors of single entries are in the report; what
// throws is trouble with the index, the store or the root. Cancelled if asked to stop; what was
// found until then is kept in the pending layer.
#pragma once

#include "services/tree/content_store.hpp"
#include "services/tree/index.hpp"
#include "services/tree/path_filter.hpp"
#include "services/tree/progress.hpp"
#include "services/tree/xattrs.hpp"

#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tree {

class LateLinks;

struct ScanSettings {
  PathFilter filter;
  bool one_file_system = true;
  std::chrono::nanoseconds settle = std::chrono::seconds(2);  // how long temporary names are young
  unsigned threads = 2;  // that hash
  XattrMode xattrs = XattrMode::None;
};

struct ScanProblem {
  enum class Kind {
    Unreadable,  // kept as it was, or left out if it is new
    Unstable,    // changes all the time: the same
    OtherMount,  // the same
    BadName,     // no node may hold it: left out
    Vanished,    // went away, or became something else, while it was looked at; looked at again
  };
  Kind kind = Kind::Unreadable;
  Bytes path;
  int error = 0;
};
std::string_view to_string(ScanProblem::Kind kind);

struct ScanReport {
  enum class Root { Present, Gone, Emptied };
  Root root = Root::Present;  // else nothing was looked at
  std::uint64_t directories = 0;  // listed
  std::uint64_t entries = 0;      // looked at
  std::uint64_t files_hashed = 0;
  std::uint64_t bytes_hashed = 0;
  std::uint64_t not_held = 0;   // hashed, but the store could not hold them
  std::uint64_t in_flight = 0;  // left out as still being written: look again later
  std::vector<ScanProblem> problems;  // the first ones
  std::uint64_t problem_count = 0;
  std::uint64_t kept = 0;  // entries that could not be read and stand as they were, or are left out
  std::vector<Bytes> again;  // directories that were not at rest: look again
};

class Scanner {
 public:
  // `work` is a directory on the tree's filesystem, for its clock. All references outlive this.
  // What links may be left to `late`, if given, is.
  Scanner(Index& index, ContentStore& store, const std::string& root_path, int work,
          ScanSettings settings, LateLinks* late = nullptr);
  ~Scanner();

  // Everything. `careful`: also hashes files that have links outside the tree and the store, which
  // somebody may write to by another name, and holds what the store does not have.
  ScanReport all(bool careful, const WorkControl& control = {});
  // Files with a time not before this are read again by all(): what was written of them may be lost.
  void doubt(std::optional<timespec> since) { doubt_ = since; }
  // These directories (and what is new in them); those in `trees` with everything below.
  ScanReport some(const std::vector<Bytes>& directories, const std::vector<Bytes>& trees,
                  const WorkControl& control = {});

 private:
  class Run;
  Index& index_;
  ContentStore& store_;
  std::string root_path_;
  int work_;
  ScanSettings settings_;
  LateLinks* late_;
  std::optional<timespec> doubt_;
};

}  // namespace mirrorbus::tree
