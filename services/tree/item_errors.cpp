#include "services/tree/item_errors.hpp"

#include <cerrno>

namespace mirrorbus::tree {

using proto::Bytes;

void ItemErrors::add(Bytes path, std::string why) {
  if (why_.size() < kKept) why_.try_emplace(std::move(path), std::move(why));
}

const std::string* ItemErrors::of(const Bytes& path) const {
  const auto found = why_.find(path);
  return found == why_.end() ? nullptr : &found->second;
}

bool ItemErrors::concerns_all(const std::system_error& error) {
  if (error.code().category() != std::generic_category()) return true;
  switch (error.code().value()) {
    case ENOSPC:
    case EDQUOT:
    case EIO:
    case EROFS:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENODEV:
    case ESTALE: return true;
    default: return false;
  }
}

}  // namespace mirrorbus::tree
