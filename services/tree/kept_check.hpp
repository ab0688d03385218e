// Reads what a tree's daemon keeps beside the tree, and tells what of it has rotted: nodes and
// tables of its index, packs, and of an origin the contents of its store and, where that has none,
// of the tree itself. All of these have their hash for a name, so a disk that changed a bit is found
// out.
//
// Changes nothing, and may run beside the engine with a connection of its own to the index: what
// comes and goes meanwhile is not taken for rot. Memory does not grow with the tree but for node
// ids of old versions. Blocking, one thread. Throws Cancelled, and std::system_error where a folder
// cannot be read.
#pragma once

#include "bus/base/fd.hpp"
#include "services/tree/index.hpp"
#include "services/tree/object_names.hpp"
#include "services/tree/progress.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace mirrorbus::tree {

struct Rot {
  enum class Kind {
    Index,    // a node, a table or a set of extended attributes
    Pack,     // a file of the folder `packs`
    Content,  // an object of the store
    File,     // of the tree, though it looks as it did when it was hashed; and its object, if any
  };
  Kind kind = Kind::Index;
  Hash hash;   // what it should have
  Bytes path;  // of the tree, or of the file in the work folder if nothing else has that name
  std::string what;
  bool in_tree = false;  // `path` is a file of the tree that has this content
};

struct KeptReport {
  static constexpr std::size_t kNamed = 1000;
  std::vector<Rot> rotten;  // the first ones
  std::uint64_t count = 0;
  void add(Rot rot) {
    ++count;
    if (rotten.size() < kNamed) rotten.push_back(std::move(rot));
  }
  bool has(Rot::Kind kind) const {
    return std::ranges::find(rotten, kind, &Rot::kind) != rotten.end();
  }
  // What was read.
  std::uint64_t nodes = 0, packs = 0, contents = 0, files = 0, bytes = 0;
};

class KeptCheck {
 public:
  // `work`: the work folder. `control` hears of bytes beyond those of `before`, to which its totals
  // are added.
  KeptCheck(const Index& index, std::string work, const WorkControl& control,
            const Progress& before = {Phase::Verifying});

  // A mirror's: index and packs.
  KeptReport mirror();
  // An origin's: also its store, and the tree at `path`.
  KeptReport origin(const std::string& path);

 private:
  void check_index();
  void check_committed();
  std::vector<Rot> rotten_nodes(const StoredVersion& newest);
  void check_version(const StoredVersion& version);
  bool check_blob(const StoredVersion& version, const Hash& id, const char* what);
  void check_attributes(const proto::Entry& entry, ByteView path);
  void check_packs();
  void check_store();
  void check_objects(const std::string& path);
  void check_tree(const std::string& path);
  void check_files(const DirectoryRow& row, int dir);
  bool is_object(const Hash& hash, const EntryStat& stat) const;
  void tell_contents();

  std::uint64_t add_up(const Bytes& folder) const;
  // The hash of a file; nothing if it is not there any more, `error` if it cannot be read.
  struct Read {
    std::optional<Hash> hash;
    int error = 0;
    std::uint64_t links = 0, dev = 0, ino = 0;
  };
  Read read(int dir, const Bytes& name);
  void did(std::uint64_t bytes, bool file);

  static inline const std::string kNotItsHash = "is not what its hash says";

  const Index& index_;
  const std::string work_;
  base::Fd objects_folder_;
  std::optional<ObjectNames> object_names_;
  const WorkControl& control_;
  Progress progress_;
  KeptReport report_;
  std::unordered_set<Hash> met_;  // nodes of old versions, tables and sets that were looked at
  // Objects that are not what they are called, until the tree has told what they are.
  struct Object {
    std::string what, at;  // where it lies
    std::uint64_t links = 0, dev = 0, ino = 0;
    Bytes path;                 // of a file of the tree that has this content
    bool all_there_is = false;  // that is this inode, or has rotted too
  };
  std::unordered_map<Hash, Object> objects_;
};

}  // namespace mirrorbus::tree
