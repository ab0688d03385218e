// Watches a tree by fanotify: one mark for its whole filesystem, and of what is heard only what lies
// below the root is passed on. The cost is one for any number of directories; what others do on the
// same filesystem costs a look into a map, and once for each directory they do it in the question
// where that is.
//
// Needs CAP_SYS_ADMIN, and CAP_DAC_READ_SEARCH to ask where a directory is now. Does not hear of
// other filesystems mounted below the root.
#pragma once

#include "bus/base/fd.hpp"
#include "services/tree/watch.hpp"

#include <unordered_map>

namespace mirrorbus::tree {

class FanotifyWatch final : public Watch {
 public:
  // Throws std::system_error where the kernel, the filesystem or the privileges do not allow it.
  FanotifyWatch(std::string root, SkipDirectory skip);

  int fd() const override { return fd_.get(); }
  Dirty drain() override;

 private:
  struct Round;
  void take(const char* event, std::size_t size, Round& round);
  void changed(Round& round, proto::ByteView handle, std::string_view name, bool directory,
               bool appeared);
  // Where a directory is now.
  struct Place {
    enum class Where {
      Inside,     // `path` below the root; "" is the root itself
      Above,      // the root is in it
      Elsewhere,  // or gone, or skipped
    };
    Where where = Where::Elsewhere;
    proto::Bytes path;
  };
  const Place& place(const Round& round, proto::ByteView handle);
  Place find(const Round& round, proto::ByteView handle) const;
  bool skipped(const proto::Bytes& path) const;

  std::string root_;
  SkipDirectory skip_;
  base::Fd fd_;
  // By handle; forgotten when a directory of the filesystem is moved.
  std::unordered_map<proto::Bytes, Place> places_;
};

}  // namespace mirrorbus::tree
