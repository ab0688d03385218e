// What a directory tree on disk is, worked out in the plainest way: an oracle for scans.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/sha256.hpp"
#include "proto/tree_version.hpp"
#include "test/support/xattrs.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace mirrorbus::test {

struct DiskTree {
  proto::Entry root;
  proto::LinksTable links;
  proto::TreeCounts counts;
  std::map<proto::Bytes, proto::Bytes, proto::PathLess> nodes;

  // `skip` says what is not part of the tree; `xattrs`: extended attributes are.
  explicit DiskTree(const std::string& path,
                    std::function<bool(const std::string&)> skip = {}, bool xattrs = false)
      : path_(path), skip_(std::move(skip)), xattrs_(xattrs) {
    root = entry(path_);
    root.content = node("");
    for (auto& [inode, paths] : inodes_)
      if (paths.size() > 1) {
        std::ranges::sort(paths, proto::PathLess{});
        links.groups.push_back(paths);
      }
    std::ranges::sort(links.groups, proto::PathLess{},
                      [](const auto& g) -> const proto::Bytes& { return g.front(); });
  }

 private:
  proto::Entry entry(const std::string& at) const {
    struct stat st;
    if (::lstat(at.c_str(), &st) != 0) base::throw_errno(at);
    proto::Entry e;
    if (const auto set = xattrs_ ? xattrs_of(at) : proto::XattrSet(); !set.empty())
      e.xattrs = proto::sha256(proto::encode_xattr_set(set));
    e.mode = st.st_mode & 07777;
    e.uid = st.st_uid;
    e.gid = st.st_gid;
    e.mtime_s = st.st_mtim.tv_sec;
    e.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
    if (S_ISREG(st.st_mode)) {
      std::ifstream in(at, std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      e.type = proto::EntryType::File;
      e.size = bytes.size();
      e.content = proto::sha256(bytes);
    } else if (S_ISDIR(st.st_mode)) {
      e.type = proto::EntryType::Directory;
    } else if (S_ISLNK(st.st_mode)) {
      e.type = proto::EntryType::Symlink;
      e.target = std::filesystem::read_symlink(at).string();
    } else {
      e.type = S_ISFIFO(st.st_mode)   ? proto::EntryType::Fifo
               : S_ISSOCK(st.st_mode) ? proto::EntryType::Socket
               : S_ISCHR(st.st_mode)  ? proto::EntryType::CharDevice
                                      : proto::EntryType::BlockDevice;
      if (e.type == proto::EntryType::CharDevice || e.type == proto::EntryType::BlockDevice) {
        e.major = major(st.st_rdev);
        e.minor = minor(st.st_rdev);
      }
    }
    return e;
  }

  proto::Hash node(const std::string& below) {
    const std::string at = below.empty() ? path_ : path_ + "/" + below;
    std::vector<std::string> names;
    DIR* dir = ::opendir(at.c_str());
    if (!dir) base::throw_errno(at);
    while (const dirent* d = ::readdir(dir)) names.emplace_back(d->d_name);
    ::closedir(dir);
    std::ranges::sort(names);
    proto::Node node;
    for (const auto& name : names) {
      if (name == "." || name == ".." || name == ".mirrorbus") continue;
      const std::string path = proto::join_path(below, name);
      if (skip_ && skip_(path)) continue;
      proto::Entry e = entry(path_ + "/" + path);
      e.name = name;
      ++counts.entries;
      if (e.type == proto::EntryType::Directory) {
        ++counts.directories;
        e.content = this->node(path);
      } else {
        struct stat st;
        if (::lstat((path_ + "/" + path).c_str(), &st) != 0) base::throw_errno(path);
        inodes_[{st.st_dev, st.st_ino}].push_back(path);
      }
      if (e.type == proto::EntryType::File) {
        ++counts.files;
        counts.bytes += e.size;
      }
      if (e.type == proto::EntryType::Symlink) ++counts.symlinks;
      node.entries.push_back(std::move(e));
    }
    nodes[below] = proto::encode_node(node);
    return proto::node_id(nodes[below]);
  }

  std::string path_;
  std::function<bool(const std::string&)> skip_;
  bool xattrs_;
  std::map<std::pair<dev_t, ino_t>, std::vector<proto::Bytes>> inodes_;
};

}  // namespace mirrorbus::test
