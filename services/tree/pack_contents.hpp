// The content section of a delta pack: what each changed file's content is made from.
#pragma once

#include "services/tree/pack_writer.hpp"

#include <functional>

namespace mirrorbus::tree {

// Fills in the index's copies and groups, and hands the compressed groups on in order.
void add_contents(const PackInput& input, const PackTargets& targets, proto::PackIndex& index,
                  const std::function<void(ByteView stored)>& sink);

}  // namespace mirrorbus::tree
