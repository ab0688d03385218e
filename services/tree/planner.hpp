// The inside of make_plan(): goes through both trees in step, then settles what needs both of them
// whole: link groups, and where contents come from.
#pragma once

#include "services/tree/plan.hpp"
#include "services/tree/plan_links.hpp"

#include <unordered_map>

namespace mirrorbus::tree {

class Planner {
 public:
  Planner(const PlanInput& input, const LinkGroups& old_groups, const LinkGroups& groups,
          ForcedDirectories& forced);

  // The plan; or nothing if `forced` has grown and all has to be gone through again.
  proto::Decoded<std::optional<Plan>> run();

 private:
  // A directory still to be gone through.
  struct Pending {
    Plan::Directory dir;
    EntryStat stat;  // if it exists
    bool enter = true;
    bool differs = true;  // its own metadata
  };
  // A name of a group in the target.
  struct Member {
    std::uint32_t dir, at, was;
    proto::Bytes name;
    std::uint64_t ino = 0;  // of what is there, if it is the same thing
    std::uint32_t old_group = LinkGroups::kNoGroup;
    bool metadata = false;  // differs
  };
  struct Group {
    std::vector<Member> members;  // those met
    proto::Entry entry;           // the first one's
    bool differs = false;
  };
  // A name that was in a group which is no more, and would keep its inode alone.
  struct Single {
    std::uint32_t dir, at, was;
    std::uint64_t ino;
    bool metadata;
    proto::Entry entry;
  };
  // An old inode that no name keeps. `key`: what a new one must be to become of it.
  struct Free {
    proto::Hash key;
    std::uint32_t dir, was;
  };
  // The pair of entries being looked at.
  struct Meeting {
    std::uint32_t dir, at, was;
    const proto::Entry* old = nullptr;  // null: no such name, or nothing is known of it
    const proto::Entry* now = nullptr;
    EntryStat stat;           // of `old`
    bool linked = false;      // it has been seen to have other names
    bool in_the_way = false;  // a name that is unknown, but may be there
  };

  // Walk (planner.cpp)
  void go_through(Pending pending);
  void meet(const Meeting& m);
  void meet_directory(const Meeting& m, proto::Bytes path);
  void goes(const Meeting& m);
  void left_out(const Meeting& m, const proto::Entry& entry);
  bool join_group(const Meeting& m, proto::ByteView path);
  void let_go(std::uint32_t dir, std::uint32_t was, const proto::Entry& old,
              std::uint32_t old_group);
  bool metadata_differs(const proto::Entry& old, const proto::Entry& now) const;
  bool can_become(const proto::Entry& old, const proto::Entry& now) const;
  proto::Hash key(const proto::Entry& file) const;
  void fail(proto::Reject why) {
    if (!failure_) failure_ = why;
  }

  // Inodes (planner_inodes.cpp)
  std::uint32_t new_inode(std::uint32_t dir, std::uint32_t at, const proto::Entry& entry);
  void place(Plan::Op op, const proto::Entry& entry);
  void add(std::vector<Plan::Op>& usual, std::vector<Plan::Op>& last, Plan::Op op,
           proto::ByteView name);
  void touch(std::uint32_t dir, std::uint32_t at) { plan_.touched.emplace_back(dir, at); }
  bool resolve_group(std::uint32_t number);
  void resolve_single(const Single& single);
  const proto::Hash& key_of(std::uint32_t number) const;
  void take_free(std::vector<std::uint32_t>& order);
  void find_contents();
  void copy_from_the_rest(const std::vector<std::uint32_t>& wanted);
  void finish();

  const PlanInput& in_;
  const LinkGroups& old_groups_;
  const LinkGroups& groups_;
  ForcedDirectories& forced_;

  Plan plan_;
  std::optional<proto::Reject> failure_;
  std::uint64_t entries_ = 0;
  std::vector<Pending> pending_;   // the next one last
  std::vector<Pending> children_;  // of the directory being gone through
  std::unordered_map<std::uint32_t, Group> met_;
  std::unordered_map<std::uint32_t, std::uint32_t> left_out_;  // names, per group
  std::vector<Single> singles_;
  std::vector<Free> free_;
  std::vector<proto::Hash> keys_;  // of plan_.inodes, where inodes are shared
  std::vector<std::uint32_t> old_gone_;        // per old group: names let go
  std::unordered_set<std::uint64_t> claimed_;  // inodes that stay
};

}  // namespace mirrorbus::tree
