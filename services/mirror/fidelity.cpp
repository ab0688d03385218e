#include "services/mirror/fidelity.hpp"

#include <fmt/core.h>

#include <string_view>

namespace mirrorbus::mirror {
namespace {

std::string_view to_string(tree::OwnerMode mode) {
  switch (mode) {
    case tree::OwnerMode::Numeric: return "numeric";
    case tree::OwnerMode::Name: return "name";
    case tree::OwnerMode::None: break;
  }
  return "none";
}

}  // namespace

tree::OwnerMode owner_mode(const std::string& text) {
  for (const auto mode : {tree::OwnerMode::Numeric, tree::OwnerMode::Name, tree::OwnerMode::None})
    if (text == to_string(mode)) return mode;
  return tree::MetadataPolicy::Settings::default_owner();
}

tree::PathFilter path_filter(const TreeSettings& settings) {
  return {settings.exclude, settings.include, {settings.min_size, settings.max_size},
          settings.subtree};
}

std::string describe(const tree::Fidelity& fidelity) {
  if (fidelity.full()) return "full";
  std::string text;
  const auto add = [&text](std::uint64_t count, const char* what) {
    if (count > 0) text += fmt::format("{} {} of {}", text.empty() ? "without" : ",", what, count);
  };
  add(fidelity.owners, "owners");
  add(fidelity.devices, "devices");
  add(fidelity.xattrs, "xattrs");
  add(fidelity.limits, "limits");
  add(fidelity.filtered, "filtered entries");
  return text;
}

proto::Fidelity signed_fidelity(const tree::Fidelity& fidelity, const TreeSettings& settings) {
  proto::Fidelity out;
  out.full = fidelity.full();
  out.owner = to_string(owner_mode(settings.owner));
  out.xattrs =
      to_string(tree::xattr_mode(settings.xattrs).value_or(tree::default_xattr_mode()));
  out.devices = fidelity.devices == 0;
  out.owners_left_out = fidelity.owners;
  out.xattrs_left_out = fidelity.xattrs;
  out.devices_left_out = fidelity.devices;
  out.limits_left_out = fidelity.limits;
  out.filtered_left_out = fidelity.filtered;
  out.filter = path_filter(settings).hash();
  return out;
}

}  // namespace mirrorbus::mirror
