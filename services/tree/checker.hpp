// Looks at everything a plan touched and compares it with the signed nodes: step 7 of the tree
// protocol's "Applying". Its result is what the index will hold: nodes, and the lstat that proves
// them.
//
// Contents were hashed on their way into staging, or are the index's. A file whose ctime says that
// it was changed since we were done with it is hashed again; so a change that was given the right
// size and times back is seen as well.
#pragma once

#include "services/tree/applier.hpp"
#include "services/tree/index.hpp"

#include <ctime>
#include <functional>

namespace mirrorbus::tree {

class Checker {
 public:
  struct Parts {
    const Plan& plan;
    const TargetNodes& nodes;
    LiveTree& live;
    RootDir& root;
    const StagedInodes& staged;
    const EntryOps& ops;
    const MetadataPolicy& policy;
    const WorkControl& control;
    // Filesystem time before the first and after the last change: FsClock::tick().
    timespec begun, ended;
    // The committed row of a directory, where LiveTree has another.
    std::function<std::optional<DirectoryRow>(proto::ByteView path)> committed;
    bool shared = false;  // as in PlanInput
  };
  // `suspects`: Applier::suspects().
  Checker(const Parts& parts, std::vector<std::pair<std::uint32_t, std::uint32_t>> suspects);

  struct Mismatch {
    proto::Bytes path;
    std::string what;
  };
  // Hands over every directory that was gone through, as it shall be in the index. An entry that is
  // not right has a stat without inode number.
  using RowSink = std::function<void(const Plan::Directory&, DirectoryRow&&)>;
  void run(const RowSink& row);
  // Afterwards, when `rows` can be gone through again: files that share an inode though the target
  // says they do not.
  using EachStats = std::function<void(
      const std::function<void(proto::ByteView path, const std::vector<EntryStat>&)>&)>;
  void check_links(const EachStats& rows);

  const std::vector<Mismatch>& mismatches() const { return mismatches_; }  // the first ones
  std::uint64_t mismatch_count() const { return mismatch_count_; }
  // The root's own flags: what it has not of what is signed.
  std::uint32_t root_flags() const { return root_flags_; }
  // What the policy leaves out of the directories gone through: as they are, and as they were.
  const Fidelity& left_out() const { return left_out_; }
  const Fidelity& left_out_before() const { return left_out_before_; }

 private:
  static constexpr std::size_t kNamed = 1000;
  // One directory: what is to be looked at, then what was seen. Made and collected by the caller's
  // thread, looked at by any.
  struct Unit {
    std::uint32_t dir = 0;
    DirectoryRow row;
    std::optional<OldDirectory> old;

    std::vector<Mismatch> mismatches;
    std::vector<std::pair<Plan::Member, std::uint64_t>> members;  // and their inode numbers
    std::vector<std::uint64_t> linked;                            // of files in no group
    Fidelity left_out;
    std::uint64_t files = 0;
  };
  Unit prepare(std::uint32_t dir);
  void examine(Unit& unit, RootDir& root) const;
  void collect(Unit& unit, const RowSink& row);

  EntryStat check_entry(Unit& unit, std::uint32_t at, int fd, const proto::Entry& entry,
                        const EntryStat* was) const;
  std::string wrong_with(int fd, const proto::Entry& entry, struct stat& st,
                         const EntryStat* was) const;
  bool check_metadata(int fd, const proto::Bytes& name, const proto::Entry& entry,
                      struct stat& st, std::uint32_t& flags, const EntryStat* was = nullptr) const;
  void note_links(Unit& unit, std::uint32_t at, const struct stat& st) const;
  void check_group(const Plan::Member& member, std::uint64_t ino);
  void count_all(const DirectoryRow& row, Fidelity& into) const;
  void mismatch(proto::Bytes path, std::string what);

  Parts p_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> suspects_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> missing_;  // not staged
  std::unordered_map<std::uint32_t, std::uint64_t> group_ino_;
  std::unordered_map<std::uint64_t, std::uint32_t> ino_group_;
  std::unordered_map<std::uint64_t, std::uint32_t> linked_;  // inodes of single files, times met
  std::vector<Mismatch> mismatches_;
  std::uint64_t mismatch_count_ = 0;
  std::uint32_t root_flags_ = 0;
  Fidelity left_out_, left_out_before_;
  Progress progress_;
};

}  // namespace mirrorbus::tree
