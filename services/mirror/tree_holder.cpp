#include "services/mirror/tree_holder.hpp"

namespace mirrorbus::mirror {

void TreeHolder::open(const std::string& index_file, const std::string& work,
                      const std::string& tree_path) {
  const std::lock_guard lock(mutex_);
  index_file_ = index_file;
  work_ = work;
  tree_path_ = tree_path;
}

tree::OriginContent* TreeHolder::opened() {
  const std::lock_guard lock(mutex_);
  if (!content_ && !index_file_.empty())
    content_ = std::make_unique<tree::OriginContent>(index_file_, work_, tree_path_);
  return content_.get();
}

std::optional<tree::ServedFile> TreeHolder::pack(const proto::Hash& hash) {
  tree::OriginContent* content = opened();
  return content ? content->pack(hash) : std::nullopt;
}

std::optional<tree::ServedFile> TreeHolder::object(const proto::Hash& hash) {
  tree::OriginContent* content = opened();
  return content ? content->object(hash) : std::nullopt;
}

std::optional<proto::Bytes> TreeHolder::node(const proto::Hash& hash) {
  tree::OriginContent* content = opened();
  return content ? content->node(hash) : std::nullopt;
}

}  // namespace mirrorbus::mirror
