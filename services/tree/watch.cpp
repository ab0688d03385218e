#include "services/tree/watch.hpp"

#include "bus/base/fd.hpp"
#include "services/tree/fanotify_watch.hpp"
#include "services/tree/inotify_watch.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace mirrorbus::tree {

void Dirty::add(Dirty more) {
  all |= more.all;
  directories.insert(directories.end(), more.directories.begin(), more.directories.end());
  trees.insert(trees.end(), more.trees.begin(), more.trees.end());
}

void Dirty::sort() {
  for (std::vector<proto::Bytes>* list : {&directories, &trees}) {
    std::ranges::sort(*list);
    list->erase(std::ranges::unique(*list).begin(), list->end());
  }
}

namespace {

constexpr std::array<std::pair<WatchKind, std::string_view>, 4> kNames{{
    {WatchKind::Auto, "auto"},
    {WatchKind::Fanotify, "fanotify"},
    {WatchKind::Inotify, "inotify"},
    {WatchKind::None, "none"},
}};

// What /proc/self/mountinfo writes as \ooo.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Why one mark for the root's filesystem would not hear of all of the tree: of a filesystem mounted
// below the root it is not told, and what is bound into the tree has its place elsewhere.
std::string deaf_spots(const std::string& root, bool one_file_system) {
  const std::unique_ptr<char, decltype([](char* text) { ::free(text); })> real(
      ::realpath(root.c_str(), nullptr));
  struct stat st;
  if (!real || ::stat(real.get(), &st) != 0) return "";
  const std::string top = std::string(real.get()) == "/" ? "/" : std::string(real.get()) + "/";
  const std::string own = fmt::format("{}:{}", major(st.st_dev), minor(st.st_dev));
  std::ifstream list("/proc/self/mountinfo");
  std::string id, parent, device, origin, place, rest;
  while (list >> id >> parent >> device >> origin >> place && std::getline(list, rest)) {
    place = unescaped(place);
    if (place.size() > top.size() && place.starts_with(top) && (!one_file_system || device == own))
      return place + " is mounted below the root";
  }
  return "";
}

}  // namespace

std::string_view to_string(WatchKind kind) {
  for (const auto& [known, name] : kNames)
    if (known == kind) return name;
  return "";
}

std::optional<WatchKind> watch_kind(std::string_view name) {
  for (const auto& [kind, known] : kNames)
    if (known == name) return kind;
  return std::nullopt;
}

Watching watch_tree(const std::string& root, SkipDirectory skip, WatchKind kind,
                    bool one_file_system) {
  Watching watching;
  if (kind == WatchKind::None) return watching;
  if (kind != WatchKind::Inotify) {
    watching.reason = deaf_spots(root, one_file_system);
    if (watching.reason.empty() || kind == WatchKind::Fanotify) {
      try {
        watching.watch = std::make_unique<FanotifyWatch>(root, skip);
        watching.kind = WatchKind::Fanotify;
        return watching;
      } catch (const std::system_error& error) {
        if (kind == WatchKind::Fanotify) throw;
        watching.reason = error.what();
      }
    }
  }
  watching.watch = std::make_unique<InotifyWatch>(root, std::move(skip));
  watching.kind = WatchKind::Inotify;
  return watching;
}

RootPlace RootPlace::of(const std::string& path) {
  struct statx st;
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_INO | STATX_MNT_ID, &st) != 0)
    return {};
  return {std::uint64_t{st.stx_dev_major} << 32 | st.stx_dev_minor, st.stx_ino, st.stx_mnt_id};
}

}  // namespace mirrorbus::tree
