#include "services/tree/unseen_tree.hpp"

#include "services/tree/item_errors.hpp"
#include "services/tree/sparse.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using proto::ByteView;
using proto::Entry;

bool UnseenTree::put(ByteView directory, const Entry& entry, ByteView content, unsigned worker) {
  try {
    const RootDir::Dir dir = roots_.at(worker).open(directory);
    ops_.mutating("create", entry.name);
    constexpr int kFlags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
    const base::Fd file(
        ::openat(dir.get(), entry.name.c_str(), kFlags, policy_.mode_at_birth(entry)));
    if (!file) base::throw_errno("create " + entry.name);
    try {
      write(file.get(), entry, content);
    } catch (const std::system_error&) {
      ::unlinkat(dir.get(), entry.name.c_str(), 0);
      throw;
    }
  } catch (const std::system_error& error) {
    if (ItemErrors::concerns_all(error)) throw;
    return false;
  }
  return true;
}

void UnseenTree::write(int fd, const Entry& entry, ByteView content) const {
  ops_.mutating("write", entry.name);
  append_sparse(fd, content, 0, entry.name);
  policy_.dress(ops_, fd, {}, entry);
}

}  // namespace mirrorbus::tree
