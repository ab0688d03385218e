#include "services/tree/tree_link.hpp"

#include "bus/base/fd.hpp"
#include "services/tree/entry_stat.hpp"

#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;
using proto::Bytes;

namespace {

std::string holder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string last_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool same_folder(const std::string& a, const std::string& b) {
  struct stat first, second;
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 &&
         same_inode(first, second);
}

}  // namespace

std::string TreeLink::with_subtree(const std::string& below) const {
  return subtree_.empty() ? below : below + "/" + subtree_;
}

// Relative where it can be, so that a folder with both may be moved or seen by another path.
std::string TreeLink::target(const std::string& below) const {
  const std::string rest = "/" + with_subtree(below);
  if (same_folder(holder_of(work_), holder_of(link_))) return last_of(work_) + rest;
  return std::filesystem::canonical(work_).string() + rest;
}

std::optional<std::string> TreeLink::read() const {
  std::string target(4096, '\0');
  const ssize_t n = ::readlink(link_.c_str(), target.data(), target.size());
  if (n < 0) {
    if (errno == ENOENT || errno == EINVAL) return {};
    throw_errno("readlink " + link_);
  }
  target.resize(static_cast<std::size_t>(n));
  return target;
}

std::optional<std::string> TreeLink::unfit(bool adopt) const {
  struct stat st;
  if (::lstat(link_.c_str(), &st) != 0) {
    if (errno == ENOENT) return {};
    throw_errno("stat " + link_);
  }
  if (!S_ISLNK(st.st_mode))
    return link_ +
           " is there and is no symbolic link: with apply = \"snapshot\", or with subtree, it "
           "becomes one; move it away first, adopt does not take it over";
  if (adopt) return {};
  const std::string target = read().value_or("");
  std::string at = target.starts_with('/') ? target : holder_of(link_) + "/" + target;
  for (; at.size() > 1 && at != "."; at = holder_of(at))
    if (same_folder(at, work_)) return {};
  return link_ + " is a symbolic link to " + target +
         ", which is nothing of this mirror's: remove it, or set adopt to have it replaced";
}

bool TreeLink::would_show(const std::string& below) const {
  return ::access((work_ + "/" + with_subtree(below)).c_str(), F_OK) == 0;
}

void TreeLink::lead_to(const std::string& below) const {
  const std::string target = this->target(below);
  if (read() == target) return;
  const std::string folder = holder_of(link_);
  const base::Fd holder(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!holder) throw_errno("open " + folder);
  const Bytes name = last_of(link_), next = ".mirrorbus-" + name + ".new";
  ops_.unlink(holder.get(), next);
  ops_.make_symlink(target, holder.get(), next);
  ops_.replace(holder.get(), next, holder.get(), name);
  if (::fsync(holder.get()) != 0) throw_errno("fsync " + folder);
}

}  // namespace mirrorbus::tree
