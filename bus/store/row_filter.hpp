// Does a journal row hold an event under a prefix? Walks the row's item headers only.
#pragma once

#include "proto/bytes.hpp"

namespace mirrorbus::store {

bool row_has_prefix(proto::ByteView row, proto::ByteView prefix);

}  // namespace mirrorbus::store
