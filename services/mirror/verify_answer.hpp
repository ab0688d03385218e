// What `bus-mirror verify` is answered, of either role.
#pragma once

#include "proto/value.hpp"
#include "services/tree/mirror_tree.hpp"

namespace mirrorbus::mirror {

// {"equal", "differences", "rotten" (those of them that are not in the tree but beside it),
// "files", "contents", "packs", "nodes", "bytes" (read), "fidelity", "repaired",
// "paths": [{"path", "what"}…]}.
proto::Value verify_answer(const tree::VerifyResult& found, bool repaired);

}  // namespace mirrorbus::mirror
