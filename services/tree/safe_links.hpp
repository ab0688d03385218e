// Whether a symbolic link may lead out of its tree, as rsync's --safe-links judges it: by its text
// alone, so that nobody's directories have to be looked at.
#pragma once

#include "proto/bytes.hpp"

namespace mirrorbus::tree {

// `directory`: of the link, below the root. An absolute target leads out, and one that climbs above
// the root on its way; so does one with ".." after a name, for that name may itself be a link, and
// one that ends with "/..".
bool leads_out(proto::ByteView directory, proto::ByteView target);

}  // namespace mirrorbus::tree
