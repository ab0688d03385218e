// Index::seal_pending(). Internal to Index.
#pragma once

#include "services/tree/index_rows.hpp"

namespace mirrorbus::tree {

proto::Decoded<RootRow> seal_pending(IndexRows& rows);

}  // namespace mirrorbus::tree
