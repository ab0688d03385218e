#include "services/tree/fanotify_watch.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mirrorbus::tree {
namespace {

// Closing counts too: what was written through a mapping is told of by nothing else.
constexpr std::uint64_t kMask = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO |
                                FAN_MODIFY | FAN_CLOSE_WRITE | FAN_ATTRIB | FAN_ONDIR;

// Directories whose places are remembered, whether they are of the tree or not.
constexpr std::size_t kPlaces = 32'768;

// The path that an open directory has now, as this process sees it.
std::string path_of(int fd) {
  std::array<char, PATH_MAX> buffer;
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), buffer.data(), buffer.size());
  return size > 0 && static_cast<std::size_t>(size) < buffer.size()
             ? std::string(buffer.data(), static_cast<std::size_t>(size))
             : std::string();
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }
std::string_view directory_name(std::string_view path) {
  return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

}  // namespace

// One drain().
struct FanotifyWatch::Round {
  base::Fd root;
  std::string root_path;
  std::set<proto::Bytes> directories, trees;
  bool all = false;
};

FanotifyWatch::FanotifyWatch(std::string root, SkipDirectory skip)
    : root_(std::move(root)),
      skip_(std::move(skip)),
      fd_(::fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK | FAN_CLOEXEC,
                          O_RDONLY | O_CLOEXEC)) {
  if (!fd_) base::throw_errno("fanotify");
  if (::fanotify_mark(fd_.get(), FAN_MARK_ADD | FAN_MARK_FILESYSTEM | FAN_MARK_ONLYDIR, kMask,
                      AT_FDCWD, root_.c_str()) != 0)
    base::throw_errno("marking the filesystem of " + root_);
  // Without the right to open by handle nothing that is heard could be told a place.
  const base::Fd fd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) base::throw_errno("opening " + root_);
  alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> space{};
  auto* handle = reinterpret_cast<file_handle*>(space.data());
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  if (::name_to_handle_at(fd.get(), "", handle, &mount, AT_EMPTY_PATH) != 0)
    base::throw_errno("asking for the handle of " + root_);
  if (!base::Fd(::open_by_handle_at(fd.get(), handle, O_PATH | O_CLOEXEC)))
    base::throw_errno("opening " + root_ + " by its handle");
}

Dirty FanotifyWatch::drain() {
  Round round;
  alignas(fanotify_event_metadata) char buffer[64 * 1024];
  for (;;) {
    const ssize_t size = ::read(fd_.get(), buffer, sizeof buffer);
    if (size <= 0) {
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno != EAGAIN) base::throw_errno("reading fanotify events of " + root_);
      break;
    }
    // Only while events are read: an open directory would keep the filesystem from being unmounted.
    if (!round.root) {
      round.root = base::Fd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (round.root) round.root_path = path_of(round.root.get());
      round.all = round.root_path.empty();
    }
    std::size_t left = static_cast<std::size_t>(size);
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer);
    for (; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left)) {
      if (event->vers != FANOTIFY_METADATA_VERSION) round.all = true;
      if (event->mask & FAN_Q_OVERFLOW) round.all = true;
      if (!round.all) take(reinterpret_cast<const char*>(event), event->event_len, round);
    }
  }
  Dirty dirty;
  dirty.all = round.all;
  if (dirty.all) return dirty;
  dirty.directories.assign(round.directories.begin(), round.directories.end());
  dirty.trees.assign(round.trees.begin(), round.trees.end());
  return dirty;
}

void FanotifyWatch::take(const char* event, std::size_t size, Round& round) {
  fanotify_event_metadata head;
  std::memcpy(&head, event, sizeof head);
  const bool directory = head.mask & FAN_ONDIR;
  const bool appeared = head.mask & (FAN_CREATE | FAN_MOVED_TO);
  if (directory && (head.mask & (FAN_MOVED_FROM | FAN_MOVED_TO))) places_.clear();
  for (std::size_t at = head.metadata_len; at + sizeof(fanotify_event_info_fid) <= size;) {
    fanotify_event_info_fid info;
    std::memcpy(&info, event + at, sizeof info);
    if (info.hdr.len < sizeof info || at + info.hdr.len > size) return;
    const bool named = info.hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME;
    if (named || info.hdr.info_type == FAN_EVENT_INFO_TYPE_DFID) {
      const char* handle = event + at + sizeof info;
      const char* end = event + at + info.hdr.len;
      file_handle raw;
      if (handle + sizeof raw > end) return;
      std::memcpy(&raw, handle, sizeof raw);
      if (raw.handle_bytes > static_cast<std::size_t>(end - handle) - sizeof raw) return;
      const proto::ByteView whole(handle, sizeof raw + raw.handle_bytes);
      const char* name = handle + whole.size();
      const std::string_view text =
          named ? std::string_view(name, ::strnlen(name, static_cast<std::size_t>(end - name)))
                : std::string_view();
      changed(round, whole, text, directory, appeared);
    }
    at += info.hdr.len;
  }
}

void FanotifyWatch::changed(Round& round, proto::ByteView handle, std::string_view name,
                            bool directory, bool appeared) {
  const Place& at = place(round, handle);
  if (at.where == Place::Where::Above && base_name(round.root_path) == name) round.all = true;
  if (at.where != Place::Where::Inside) return;
  round.directories.insert(at.path);
  if (!directory) return;
  if (name.empty() || name == ".") {
    // Its own metadata stands in the directory above it.
    const auto slash = at.path.rfind('/');
    round.directories.insert(slash == proto::Bytes::npos ? "" : at.path.substr(0, slash));
  } else if (appeared) {
    proto::Bytes child = at.path.empty() ? "" : at.path + "/";
    child += name;
    if (!skipped(child)) round.trees.insert(std::move(child));
  }
}

const FanotifyWatch::Place& FanotifyWatch::place(const Round& round, proto::ByteView handle) {
  const auto known = places_.find(proto::Bytes(handle));
  if (known != places_.end()) return known->second;
  if (places_.size() >= kPlaces) places_.clear();
  return places_.emplace(handle, find(round, handle)).first->second;
}

FanotifyWatch::Place FanotifyWatch::find(const Round& round, proto::ByteView handle) const {
  using Where = Place::Where;
  alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> space{};
  if (handle.size() > space.size()) return {};
  std::memcpy(space.data(), handle.data(), handle.size());
  const base::Fd fd(::open_by_handle_at(
      round.root.get(), reinterpret_cast<file_handle*>(space.data()), O_PATH | O_CLOEXEC));
  struct stat st;
  // Gone: the directory that it was in tells.
  if (!fd || ::fstat(fd.get(), &st) != 0 || st.st_nlink == 0) return {};
  const std::string path = path_of(fd.get());
  const std::string& root = round.root_path;
  if (path == root) return {Where::Inside, ""};
  const std::size_t skip = root == "/" ? 1 : root.size() + 1;
  if (path.size() > skip && path.starts_with(root) && path[skip - 1] == '/') {
    proto::Bytes below = path.substr(skip);
    return skipped(below) ? Place() : Place{Where::Inside, std::move(below)};
  }
  return {path == directory_name(root) ? Where::Above : Where::Elsewhere, {}};
}

// A directory is skipped with all below it.
bool FanotifyWatch::skipped(const proto::Bytes& path) const {
  if (!skip_) return false;
  for (std::size_t end = path.find('/'); end != proto::Bytes::npos; end = path.find('/', end + 1))
    if (skip_(path.substr(0, end))) return true;
  return skip_(path);
}

}  // namespace mirrorbus::tree
