// Carries out a plan whose new inodes are staged: steps 1 to 6 of the tree protocol's "Applying".
//
// Any path is at all times what it was or what it shall be; contents come before metadata, metadata
// before deletes. What is interrupted anywhere is finished by planning again from what is there. An
// error that concerns one entry (its name, its permissions, a mount point) is noted and the rest
// goes on; one that concerns all (disk full, I/O error) is thrown.
#pragma once

#include "services/tree/item_errors.hpp"
#include "services/tree/live_tree.hpp"
#include "services/tree/plan.hpp"
#include "services/tree/progress.hpp"
#include "services/tree/stager.hpp"

#include <span>

namespace mirrorbus::tree {

class Applier {
 public:
  struct Parts {
    const Plan& plan;
    const TargetNodes& nodes;
    LiveTree& live;
    RootDir& root;
    Staging& staging;
    const StagedInodes& staged;
    const MetadataPolicy& policy;
    LocalEdits& edits;
    ItemErrors& errors;
    const WorkControl& control;
  };
  explicit Applier(const Parts& parts);

  // Step 1, before staging where contents go straight to their places; else run() does it.
  void make_directories();
  void run();
  // Entries (directory, place in the target node) that were found to be other than was known: they
  // were left alone, and are wrong whatever they look like.
  const std::vector<std::pair<std::uint32_t, std::uint32_t>>& suspects() const { return suspects_; }

 private:
  // Metadata changes in one directory, and what came of them.
  struct ChangeUnit {
    std::span<const Plan::Op> ops;
    proto::Node node;  // the target's
    OldDirectory old;
    std::vector<std::pair<proto::Bytes, std::string>> errors;
    std::vector<std::pair<proto::Bytes, LocalEdit::Kind>> edits;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> suspects;
  };
  void make_directory(std::uint32_t dir);
  void unlock(std::uint32_t dir);
  void place(const std::vector<Plan::Op>& ops);
  void link(const std::vector<Plan::Op>& ops);
  enum class Use { Only, Last, NotLast };  // of a staged inode
  void put(const proto::Bytes& staged, Use use, const RootDir::Dir& dir, const proto::Bytes& name,
           const proto::Bytes& path);
  void change(const std::vector<Plan::Op>& ops);
  void change(ChangeUnit& unit, RootDir& root) const;
  static bool as_it_was(const struct stat& st, const EntryStat& was, int dir,
                        const proto::Entry& entry);
  void remove();
  void finish_directories();
  void dress_link(const proto::Bytes& staged, const proto::Entry& entry);
  void count();

  const Plan::Directory& directory(std::uint32_t dir) const { return p_.plan.dirs[dir]; }
  const proto::Node& target_node(std::uint32_t dir);
  const OldDirectory& old_directory(std::uint32_t dir);

  Parts p_;
  const EntryOps& ops_;
  bool directories_made_ = false;
  std::vector<std::uint32_t> uses_;  // left, per NewInode
  std::vector<bool> kept_seen_;      // per Kept: it is what it was
  std::vector<proto::Bytes> trash_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> suspects_;
  std::optional<std::pair<std::uint32_t, proto::Node>> target_;
  std::optional<std::pair<std::uint32_t, OldDirectory>> old_;
  Progress progress_;
};

}  // namespace mirrorbus::tree
