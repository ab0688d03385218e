#include "services/tree/snapshots.hpp"

#include "services/tree/mirror_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include <fcntl.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::throw_errno;

namespace {

// Settings of the index.
constexpr std::string_view kList = "snapshots";
constexpr std::string_view kPinned = "snapshots.pinned";  // a name; empty: none
constexpr std::string_view kBegun = "snapshots.begun";    // of "new": identity and target
const Bytes kNew = "new";
constexpr std::size_t kOpenLevels = 48;  // descriptors held while removing
constexpr std::size_t kMaxName = 64;

std::vector<Snapshot> read_list(const Index& index) {
  std::vector<Snapshot> all;
  const auto bytes = index.setting(kList);
  if (!bytes) return all;
  proto::Reader r(*bytes);
  while (!r.failure() && !r.at_end()) {
    Snapshot each;
    each.number = r.u64();
    each.tree_hash = r.hash();
    each.time_ns = r.u64();
    each.ceased_ns = r.u64();
    each.name = r.raw(std::min<std::uint64_t>(r.varint(), kMaxName));
    all.push_back(std::move(each));
  }
  if (r.failure()) throw std::runtime_error("the index holds a damaged list of versions");
  return all;
}

base::Fd open_folder(const std::string& path) {
  base::Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open " + path);
  return fd;
}

void sync_folder(int fd) {
  if (::fsync(fd) != 0) throw_errno("fsync a folder");
}

}  // namespace

Snapshots::Snapshots(TreeLink link, const std::string& work, Index& index, const EntryOps& ops)
    : link_(std::move(link)), work_(work), index_(index), ops_(ops) {
  const std::string folder = work + "/versions";
  if (::mkdir(folder.c_str(), 0755) == 0) {
    if (::chmod(folder.c_str(), 0755) != 0) throw_errno("chmod " + folder);
  } else if (errno != EEXIST) {
    throw_errno("make " + folder);
  }
  folder_ = open_folder(folder);
}

bool Snapshots::any(const Index& index) { return index.setting(kList).has_value(); }

std::optional<std::string> Snapshots::newest_path(const Index& index, const std::string& work) {
  const auto all = read_list(index);
  if (all.empty()) return {};
  return work + "/versions/" + all.back().name;
}

std::vector<Snapshot> Snapshots::all() const { return read_list(index_); }

std::optional<Snapshot> Snapshots::newest() const {
  auto all = this->all();
  if (all.empty()) return {};
  return std::move(all.back());
}

std::optional<Snapshot> Snapshots::pinned() const {
  const Bytes name = index_.setting(kPinned).value_or(Bytes());
  for (Snapshot& each : all())
    if (each.name == name) return std::move(each);
  return {};
}

std::string Snapshots::path_of(ByteView name) const {
  return work_ + "/versions/" + std::string(name);
}

void Snapshots::put(const std::vector<Snapshot>& all) {
  Bytes bytes;
  proto::Writer w(bytes);
  for (const Snapshot& each : all)
    w.u64(each.number).hash(each.tree_hash).u64(each.time_ns).u64(each.ceased_ns)
        .varint(each.name.size()).raw(each.name);
  index_.set_setting(kList, bytes);
}

bool Snapshots::is_begun(const Bytes& name) const {
  const auto bytes = index_.setting(kBegun);
  if (!bytes || bytes->size() != 24 + Hash::kSize) return false;
  proto::Reader r(*bytes);
  RootIdentity begun;
  for (std::uint64_t* n : {&begun.ino, &begun.dev, &begun.fsid}) *n = r.u64();
  const base::Fd fd(
      ::openat(folder_.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return fd && RootIdentity::of(fd.get()).same(begun);
}

void Snapshots::settle() {
  auto list = all();
  std::vector<Bytes> names = ops_.list(folder_.get());
  std::ranges::sort(names);
  const auto there = [&names](const Bytes& name) {
    return std::ranges::binary_search(names, name);
  };
  if (!list.empty() && !there(list.back().name))
    throw std::runtime_error(fmt::format(
        "{}, the version committed here, has vanished: put it back, or remove the tree's state "
        "and begin anew",
        path_of(list.back().name)));
  bool has_new = there(kNew) && is_begun(kNew);
  for (const Bytes& name : names) {
    const bool listed = std::ranges::find(list, name, &Snapshot::name) != list.end();
    if (listed || name.starts_with('x') || (name == kNew && has_new)) continue;
    if (!has_new && name != kNew && is_begun(name)) {  // named, but the commit did not come about
      ops_.move_new(folder_.get(), name, folder_.get(), kNew);
      has_new = true;
    } else {
      trash(name);
    }
  }
  if (std::erase_if(list, [&](const Snapshot& each) { return !there(each.name); }) > 0) put(list);
  if (list.empty()) return;
  if (const auto why = link_.unfit(false)) throw std::runtime_error(*why);
  if (link_.would_show("versions/" + pinned().value_or(list.back()).name)) show();
}

Snapshots::Begun Snapshots::begin(const Hash& tree_hash) {
  Begun begun = Begun::Fresh;
  if (ops_.look(folder_.get(), kNew)) {
    if (is_begun(kNew))
      begun = index_.setting(kBegun)->substr(24) == tree_hash.view() ? Begun::SameTarget
                                                                     : Begun::OtherTarget;
    else
      trash(kNew);
  }
  if (begun == Begun::Fresh) ops_.make_directory(folder_.get(), kNew, 0700);
  const base::Fd fd(
      ::openat(folder_.get(), kNew.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) throw_errno("open " + new_path());
  const auto identity = RootIdentity::of(fd.get());
  Bytes bytes;
  proto::Writer(bytes).u64(identity.ino).u64(identity.dev).u64(identity.fsid).hash(tree_hash);
  index_.set_setting(kBegun, bytes);
  return begun;
}

bool Snapshots::has_begun() const { return is_begun(kNew); }

void Snapshots::drop_new() {
  if (ops_.look(folder_.get(), kNew)) trash(kNew);
}

void Snapshots::name_new(const proto::VersionRecord& record) {
  const Bytes number = std::to_string(record.number);
  Bytes name = number;
  for (int n = 2; ops_.look(folder_.get(), name); ++n) name = number + "." + std::to_string(n);
  ops_.move_new(folder_.get(), kNew, folder_.get(), name);
  sync_folder(folder_.get());
  auto list = all();
  list.push_back({record.number, record.tree_hash, record.time_ns, 0, name});
  put(list);
  index_.set_setting(kBegun, {});
}

void Snapshots::show() {
  auto list = all();
  if (list.empty()) return;
  const Bytes shown = pinned().value_or(list.back()).name;
  link_.lead_to("versions/" + shown);
  bool changed = false;
  const std::uint64_t now = base::to_ns(std::chrono::system_clock::now());
  for (Snapshot& each : list) {
    const std::uint64_t before = each.ceased_ns;
    if (each.name == shown)
      each.ceased_ns = 0;
    else if (each.ceased_ns == 0 && each.name != list.back().name)
      each.ceased_ns = now;
    changed = changed || each.ceased_ns != before;
  }
  if (changed) put(list);
}

void Snapshots::pin(std::uint64_t number) {
  const auto list = all();
  const auto found = std::ranges::find(list.rbegin(), list.rend(), number, &Snapshot::number);
  if (found == list.rend()) {
    std::string held;
    for (const Snapshot& each : list)
      held += fmt::format("{}{}", held.empty() ? "" : ", ", each.number);
    throw std::runtime_error(fmt::format("version {} is not held here; held are: {}", number,
                                         held.empty() ? "none" : held));
  }
  index_.set_setting(kPinned, found->name);
  show();
}

void Snapshots::unpin() {
  index_.set_setting(kPinned, {});
  show();
}

// ---- removing

// First out of the way under a name that says so, then out of the list: what settle() finds in
// neither is removed as well.
void Snapshots::trash(const Bytes& name) {
  Bytes as;
  for (int n = 1; as.empty() || ops_.look(folder_.get(), as); ++n)
    as = "x" + name + "-" + std::to_string(n);
  ops_.move_new(folder_.get(), name, folder_.get(), as);
}

bool Snapshots::take_out(const Keep& keep, base::WallTime now) {
  auto list = all();
  if (list.empty()) return false;
  const std::uint64_t oldest = oldest_retained(index_, keep.retain, now);
  const auto pinned = this->pinned();
  const auto grace = static_cast<std::uint64_t>(keep.grace.count());
  for (auto each = list.begin(); each + 1 != list.end(); ++each) {
    if (each->ceased_ns == 0 || (pinned && pinned->name == each->name)) continue;
    if (base::to_ns(now) < each->ceased_ns + grace) continue;
    const auto version = index_.version(each->number);
    const bool retained = each->number >= oldest && version &&
                          version->record.tree_hash == each->tree_hash &&
                          std::none_of(each + 1, list.end(), [each](const Snapshot& later) {
                            return later.number == each->number;
                          });
    if (retained) continue;
    trash(each->name);
    list.erase(each);
    put(list);
    return true;
  }
  return false;
}

bool Snapshots::sweep(const Keep& keep, base::WallTime now, std::size_t limit) {
  while (take_out(keep, now)) {
  }
  std::size_t left = limit;
  for (const Bytes& name : ops_.list(folder_.get()))
    if (name.starts_with('x') && !remove_some(folder_.get(), name, left, 0)) return true;
  return false;
}

// True if all of it is gone.
bool Snapshots::remove_some(int dir, const Bytes& name, std::size_t& left, int depth) const {
  if (static_cast<std::size_t>(depth) == kOpenLevels) {
    ops_.remove_all(dir, name);
    return true;
  }
  const auto st = ops_.look(dir, name);
  if (st && ::geteuid() != 0 && (st->st_mode & S_IRWXU) != S_IRWXU)
    ops_.set_mode(dir, name, S_IRWXU);
  const base::Fd fd(
      ::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) throw_errno("open " + name);
  for (const Bytes& child : ops_.list(fd.get())) {
    if (left == 0) return false;
    const auto is = ops_.look(fd.get(), child);
    if (is && S_ISDIR(is->st_mode)) {
      if (!remove_some(fd.get(), child, left, depth + 1)) return false;
    } else {
      ops_.unlink(fd.get(), child);
      --left;
    }
  }
  ops_.remove_directory(dir, name);
  if (left > 0) --left;
  return true;
}

}  // namespace mirrorbus::tree
