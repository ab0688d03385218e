#include "services/tree/plan.hpp"

#include "services/tree/planner.hpp"

#include <stdexcept>

namespace mirrorbus::tree {

proto::Node TargetNodes::node(const proto::Hash& id) const {
  auto node = proto::decode_node(encoded(id));
  if (!node) throw std::runtime_error("node " + to_hex(id) + " does not decode");
  return std::move(*node);
}

bool Plan::empty() const {
  return make.empty() && touched.empty() && remove.empty() && remove_dirs.empty() && !root_changes;
}

std::uint64_t Plan::bytes_to_fetch() const {
  std::uint64_t bytes = 0;
  for (const NewInode& inode : inodes)
    if (inode.source == Source::Fetch) bytes += inode.size;
  return bytes;
}

std::uint64_t Plan::bytes_to_write() const {
  std::uint64_t bytes = 0;
  for (const NewInode& inode : inodes)
    if (inode.source != Source::Take) bytes += inode.size;
  return bytes;
}

proto::Decoded<Plan> make_plan(const PlanInput& input) {
  LinkGroups old_groups(input.old_links), groups(input.links);
  LinkGroups::compare(old_groups, groups);
  ForcedDirectories forced;
  for (const auto& [table, side] :
       {std::pair(&input.old_links, &old_groups), {&input.links, &groups}})
    for (std::uint32_t number = 0; number < table->groups.size(); ++number)
      if (side->changed(number))
        for (const proto::Bytes& path : table->groups[number]) forced.add_parent_of(path);
  // A second round is for names of a group whose other names alone were found different; each round
  // adds directories, so this ends.
  for (;;) {
    auto plan = Planner(input, old_groups, groups, forced).run();
    if (!plan) return proto::refuse(plan.error());
    if (*plan) return std::move(**plan);
  }
}

}  // namespace mirrorbus::tree
