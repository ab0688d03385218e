// rsync's opinion of whether two trees are equal: content, metadata to the nanosecond, hard links.
#pragma once

#include <string>

namespace mirrorbus::test {

// What `rsync -naHAXc -@-1 --delete --itemize-changes` prints, from a to b and from b to a; "" if
// they are equal. Options are added to both.
std::string oracle(const std::string& a, const std::string& b, const std::string& options = "");

// The same from one tree to another only: what has to happen to `to`.
std::string itemized(const std::string& from, const std::string& to,
                     const std::string& options = "");

}  // namespace mirrorbus::test
