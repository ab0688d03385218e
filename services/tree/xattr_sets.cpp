#include "services/tree/xattr_sets.hpp"

#include <stdexcept>

namespace mirrorbus::tree {

bool XattrSets::need(const proto::Hash& id) {
  if (sets_.contains(id)) return true;
  const auto bytes = find_(id);
  if (!bytes) return false;
  sets_.emplace(id, spool_.put(*bytes));
  return true;
}

proto::XattrSet XattrSets::get(const proto::Hash& id) const {
  const auto found = sets_.find(id);
  if (found == sets_.end())
    throw std::logic_error("xattr set " + to_hex(id) + " was not looked up");
  auto set = proto::decode_xattr_set(spool_.get(found->second));
  if (!set) throw std::runtime_error("xattr set " + to_hex(id) + " does not decode");
  return std::move(*set);
}

}  // namespace mirrorbus::tree
