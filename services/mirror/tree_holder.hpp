// What the content server's thread hands out of one tree, with an index connection of its own, so
// that serving waits for no scan and no sync. The role opens it when its tree is open.
#pragma once

#include "services/mirror/content_holder.hpp"
#include "services/tree/origin_content.hpp"

#include <memory>
#include <mutex>
#include <string>

namespace mirrorbus::mirror {

class TreeHolder final : public ContentHolder {
 public:
  // The role's thread; until then nothing is held.
  void open(const std::string& index_file, const std::string& work, const std::string& tree_path);

  std::optional<tree::ServedFile> pack(const proto::Hash& hash) override;
  std::optional<tree::ServedFile> object(const proto::Hash& hash) override;
  std::optional<proto::Bytes> node(const proto::Hash& hash) override;

 private:
  tree::OriginContent* opened();

  std::mutex mutex_;  // for the one moment of opening
  std::string index_file_, work_, tree_path_;
  std::unique_ptr<tree::OriginContent> content_;
};

}  // namespace mirrorbus::mirror
