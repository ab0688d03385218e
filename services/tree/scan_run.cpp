#include "services/tree/scan_run.hpp"

#include "proto/limits.hpp"
#include "services/tree/fs_clock.hpp"
#include "services/tree/in_flight.hpp"

#include <algorithm>
#include <stdexcept>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mirrorbus::tree {

using base::Fd;
using base::throw_errno;
using proto::Entry;
using proto::EntryType;
using Kind = ScanProblem::Kind;

namespace {

constexpr std::size_t kNamedProblems = 1000;
// Rows between two commits: a first scan that is killed goes on from there.
constexpr std::size_t kRowsPerCommit = 2000;
// Which extended attributes the index has.
constexpr std::string_view kXattrsSetting = "xattrs";

}  // namespace

Scanner::Run::Known::Known(const DirectoryRow* r)
    : row(r), reader(r ? ByteView(r->node) : ByteView()) {
  if (!row) return;
  more = reader.next(entry);
}

bool Scanner::Run::Known::next() {
  ++at;
  more = reader.next(entry);
  if (more && at >= row->stats.size())
    throw std::runtime_error("the index holds a damaged row: " + row->path);
  return more;
}

Scanner::Run::Run(Scanner& scanner, bool full, bool careful, const WorkControl& control)
    : s_(scanner),
      index_(scanner.index_),
      full_(full),
      careful_(careful),
      control_(control),
      xattrs_(scanner.settings_.xattrs != XattrMode::None) {
  const Bytes before = index_.setting(kXattrsSetting).value_or(Bytes(to_string(XattrMode::None)));
  reread_ = before != to_string(s_.settings_.xattrs);
  full_ = full_ || reread_;
}

void Scanner::Run::problem(Kind kind, Bytes path, int error) {
  ++report_.problem_count;
  if (report_.problems.size() < kNamedProblems)
    report_.problems.push_back({kind, std::move(path), error});
}

timespec Scanner::Run::fs_now() {
  if (!clock_) {
    clock_ = Fd(::openat(s_.work_, "scan-clock", O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!clock_) throw_errno("opening the clock file in the work folder");
  }
  struct stat st;
  if (::futimens(clock_.get(), nullptr) != 0 || ::fstat(clock_.get(), &st) != 0)
    throw_errno("reading the filesystem's clock");
  return st.st_mtim;
}

Fd Scanner::Run::open_directory(const Bytes& path) {
  open_how how = {};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  if (s_.settings_.one_file_system) how.resolve |= RESOLVE_NO_XDEV;
  const char* name = path.empty() ? "." : path.c_str();
  long fd;
  do {
    fd = ::syscall(SYS_openat2, root_.get(), name, &how, sizeof how);
  } while (fd < 0 && errno == EAGAIN);
  return Fd(static_cast<int>(fd));
}

// The root itself. False if there is nothing to look at.
bool Scanner::Run::open_root() {
  root_ = Fd(::open(s_.root_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_) {
    if (errno != ENOENT && errno != ENOTDIR) throw_errno("opening the tree " + s_.root_path_);
    report_.root = ScanReport::Root::Gone;
    return false;
  }
  if (::fstat(root_.get(), &root_stat_) != 0) throw_errno("looking at the tree");
  if (!lister_.list(root_.get())) throw_errno("listing the tree " + s_.root_path_);
  const auto ours = [](ByteView name) { return name == proto::kWorkFolderName; };
  if (std::ranges::all_of(lister_.names(), ours)) {
    const auto top = index_.latest("");
    proto::NodeReader entries(top ? ByteView(top->node) : ByteView());
    Entry any;
    if (top && entries.next(any)) {
      // More likely not mounted than emptied on purpose.
      report_.root = ScanReport::Root::Emptied;
      return false;
    }
  }
  const EntryStat now = EntryStat::of(root_stat_);
  const auto known = index_.latest_root();
  known_root_device_ = known ? known->stat.dev : now.dev;
  if (known_root_device_ != now.dev) {
    full_ = true;
    // The same root with the same ctime: the filesystem was mounted under another number.
    if (known->stat.same_but_device(now)) {
      old_device_ = known_root_device_;
      index_.hard_links().move(known_root_device_, now.dev);
    }
  }
  any_links_ = index_.hard_links().any();
  has_base_ = index_.root().has_value();
  now_ = fs_now();
  root_row_.stat = now;
  describe(root_stat_, root_row_.entry);
  if (known) root_row_.entry.xattrs = known->entry.xattrs;
  read_xattrs_of(root_.get(), {}, {}, root_row_.entry);
  root_row_.entry.content = known ? known->entry.content : kUnsealedId;
  root_changed_ = !known || !(known->entry == root_row_.entry) || !known->stat.same(now);
  return true;
}

// Rows are written in several commits. Until the last one the pending layer is not a tree.
void Scanner::Run::begin() {
  open_batch_ = std::make_unique<Index::Batch>(index_);
  index_.set_setting(kScanSetting, "unfinished");
}

ScanReport Scanner::Run::end() {
  settle_failures();
  // Not before: until all rows have it, the device that most of them have is the one it had.
  if (root_changed_) index_.stage_root(root_row_);
  index_.set_setting(kScanSetting, "");
  if (reread_) index_.set_setting(kXattrsSetting, to_string(s_.settings_.xattrs));
  open_batch_->commit();
  open_batch_.reset();
  report_.again.assign(again_.begin(), again_.end());
  return std::move(report_);
}

ScanReport Scanner::Run::all() {
  begin();
  if (!open_root()) return report_;
  walk({{"", true}});
  return end();
}

ScanReport Scanner::Run::some(const std::vector<Bytes>& directories,
                              const std::vector<Bytes>& trees) {
  // What was left half done is done first.
  if (const auto left = index_.setting(kScanSetting); left && !left->empty()) full_ = true;
  begin();
  if (!open_root()) return report_;
  std::map<Bytes, bool, proto::PathLess> wanted;
  if (full_) {
    walk({{"", true}});
    return end();
  }
  for (const Bytes& path : directories) wanted.emplace(path, false);
  for (const Bytes& path : trees) wanted[path] = true;
  std::vector<Target> targets;
  for (auto& [path, deep] : wanted) {
    // What the index does not know is found from above.
    Bytes known = path;
    while (!known.empty() && !index_.latest(known)) known = proto::parent_path(known);
    if (targets.empty() || targets.back().path != known)
      targets.push_back({known, deep && known == path});
  }
  std::ranges::reverse(targets);
  walk(std::move(targets));
  while (find_linked()) {
  }
  drop_orphans();
  refresh_parents();
  return end();
}

void Scanner::Run::walk(std::vector<Target> targets) {
  stack_ = std::move(targets);
  while (!stack_.empty() || !fresh_.empty()) {
    // All that was removed is known before what is new is looked at: it may have been moved.
    auto& next = stack_.empty() ? fresh_ : stack_;
    Target target = std::move(next.back());
    next.pop_back();
    if (!looked_at_.contains(target.path)) look(target);
    control_.report({Phase::Scanning, report_.bytes_hashed, 0, report_.entries, 0});
    control_.check();
  }
  settle_batch();
  finish_hashing();
}

bool Scanner::Run::wanted(const Bytes& directory, ByteView name) {
  if (name == proto::kWorkFolderName && directory.empty()) return false;
  if (!proto::valid_entry_name(name) ||
      directory.size() + 1 + name.size() > proto::kMaxPathSize) {
    problem(Kind::BadName, proto::join_path(directory, name), 0);
    return false;
  }
  return s_.settings_.filter.empty() ||
         !s_.settings_.filter.excludes(proto::join_path(directory, name));
}

bool Scanner::Run::has_file(const std::optional<DirectoryRow>& row, ByteView name) {
  if (!row) return false;
  Known known(&*row);
  while (known.more && known.entry.name < name) known.next();
  return known.more && known.entry.name == name && known.entry.type == EntryType::File;
}

// What is in the directory, into items_. False if it could not be listed. `old`: its row, if any.
bool Scanner::Run::gather(const Target& target, int dir, const std::optional<DirectoryRow>& old) {
  items_.clear();
  if (!lister_.list(dir)) return false;
  ++report_.directories;
  for (const ByteView name : lister_.names()) {
    if (!wanted(target.path, name)) continue;
    Item item{name, {}};
    if (::fstatat(dir, name.data(), &item.st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // gone since
      return false;
    }
    ++report_.entries;
    if (S_ISDIR(item.st.st_mode) && name == kDelayedUpdates) {
      ++report_.in_flight;
      continue;
    }
    // What is in the tree by such a name does not leave it for being changed or replaced: names of
    // temporary files are new ones.
    if (S_ISREG(item.st.st_mode) && looks_temporary(name) && !has_file(old, name) &&
        in_flight(dir, name.data(), item.st, now_, s_.settings_.settle.count())) {
      ++report_.in_flight;
      look_again(target.path);
      continue;
    }
    if (S_ISREG(item.st.st_mode) &&
        s_.settings_.filter.excludes_size(static_cast<std::uint64_t>(item.st.st_size)))
      continue;
    items_.push_back(item);
  }
  return true;
}

bool Scanner::Run::as_it_was(const Item& item, const Entry& entry, const EntryStat& stat) const {
  const EntryStat now = EntryStat::of(item.st);
  const bool same = old_device_ && stat.dev == *old_device_ ? stat.same_but_device(now)
                                                            : stat.same(now);
  if (!same || (stat.flags & (EntryStat::kUncertain | EntryStat::kUnreadable))) return false;
  if (entry.type != EntryType::File) return true;
  if (s_.doubt_ && !(before(item.st.st_mtim, *s_.doubt_) && before(item.st.st_ctim, *s_.doubt_)))
    return false;
  if (!careful_) return true;
  const std::uint64_t held = stat.flags & EntryStat::kHeld ? 1 : 0;
  const std::uint64_t others = item.st.st_nlink - held;
  if (others > 1 && index_.hard_links().paths_of({now.dev, now.ino}).size() < others) return false;
  return held == 1 || s_.store_.kind() == StoreKind::None || s_.store_.has(entry.content);
}

// The ordinary case, without building anything: every name and stat is what the row says.
bool Scanner::Run::all_as_it_was(const Target& target, const DirectoryRow& row) {
  if (old_device_ || reread_ || row.stats.size() != items_.size()) return false;
  Known known(&row);
  for (const Item& item : items_) {
    if (!known.more || known.entry.name != item.name ||
        !as_it_was(item, known.entry, known.stat()) ||
        known.stat().flags & EntryStat::kXattrsAgain)
      return false;
    known.next();
  }
  if (known.more || !target.deep) return !known.more;
  for (auto item = items_.rbegin(); item != items_.rend(); ++item)
    if (S_ISDIR(item->st.st_mode))
      stack_.push_back({proto::join_path(target.path, item->name), true});
  return true;
}

void Scanner::Run::look(const Target& target) {
  Fd dir = open_directory(target.path);
  struct stat st {};
  int error = 0;
  if (!dir || ::fstat(dir.get(), &st) != 0) error = errno;
  if (error == ENOENT || error == ENOTDIR || error == ELOOP) {
    // Not there any more: the directory above knows what is.
    const Bytes above(proto::parent_path(target.path));
    if (!full_ && !looked_at_.contains(above)) {
      stack_.push_back({above, false});
    } else {
      look_again(above);
      failed_.emplace_back(target.path, Kind::Vanished);
    }
    return;
  }
  const bool other = error == EXDEV || (error == 0 && s_.settings_.one_file_system &&
                                        st.st_dev != root_stat_.st_dev);
  auto old = error == 0 ? index_.latest(target.path) : std::nullopt;
  if (other || error != 0 || !gather(target, dir.get(), old)) {
    if (!other && error == 0) error = errno;
    const Kind kind = other ? Kind::OtherMount : Kind::Unreadable;
    problem(kind, target.path, other ? EXDEV : error);
    failed_.emplace_back(target.path, kind);
    return;
  }
  if (!full_ && unmounted(target.path, st)) return;  // the directory above it says so
  if (!full_) looked_at_.emplace(target.path, st);

  if (old && all_as_it_was(target, *old)) return;
  compare(target, std::move(dir), std::move(old));
}

// A directory was, or its entry was, something else than what is there now.
void Scanner::Run::was_removed(const Bytes& path, const Entry& entry, const EntryStat& stat) {
  // What was done through this name before it went shows under the others.
  if (any_links_ && !full_)
    for (const Inode& inode : index_.hard_links().inodes_in(path))
      changed_links_.try_emplace(inode, 0);
  if (entry.type == EntryType::Directory) {
    const std::uint64_t dev = old_device_ == stat.dev ? root_stat_.st_dev : stat.dev;
    removed_.emplace(Inode{dev, stat.ino}, path);
    index_.stage_removal(path);
    gone_.push_back(path);
  } else if (any_links_) {
    index_.hard_links().clear(path);
  }
}

// A directory found in another: looked at by its own if that is due, or if it is new.
void Scanner::Run::enter(const Target& parent, const Item& item, const Known* known) {
  Bytes path = proto::join_path(parent.path, item.name);
  if (known) {
    if (known->stat().ino == item.st.st_ino) {
      // Inode numbers are used again: what does not look as it did may be another directory.
      const bool unread = known->stat().flags & EntryStat::kUnreadable;
      if (parent.deep || unread)
        stack_.push_back({std::move(path), true});
      else if (!as_it_was(item, known->entry, known->stat()))
        stack_.push_back({std::move(path), false});
      return;
    }
    was_removed(path, known->entry, known->stat());  // another directory under the same name
  }
  fresh_.push_back({std::move(path), true});
}

void Scanner::Run::compare(const Target& target, Fd dir, std::optional<DirectoryRow> old) {
  // A new directory may have been somewhere else before; then its files need not be read again.
  std::optional<DirectoryRow> was;
  if (!old) {
    struct stat st;
    if (::fstat(dir.get(), &st) != 0) throw_errno("looking at " + target.path);
    if (const auto it = removed_.find({st.st_dev, st.st_ino}); it != removed_.end())
      was = index_.directory(it->second);
  }
  Work& work = batch_.works.emplace_back();
  work.path = target.path;
  work.dir = std::move(dir);
  work.old = std::move(old);
  const bool own = !was && work.old;
  Known known(was ? &*was : work.old ? &*work.old : nullptr);
  const std::size_t children = stack_.size();
  for (const Item& item : items_) {
    for (; known.more && known.entry.name < item.name; known.next())
      if (own) was_removed(proto::join_path(target.path, known.entry.name), known.entry, known.stat());
    const bool found = known.more && known.entry.name == item.name;
    const bool was_directory = found && known.entry.type == EntryType::Directory;
    if (was_directory && own && unmounted(item.st, known.stat().dev)) {
      problem(Kind::OtherMount, proto::join_path(target.path, item.name), 0);
      ++report_.kept;
      work.entries.push_back(known.entry);
      work.stats.push_back(known.stat());
      work.stats.back().flags |= EntryStat::kUnreadable;
      work.notes.emplace_back();
      known.next();
      continue;
    }
    if (was_directory && was)  // moved along with the directory it is in, by its inode
      removed_.emplace(Inode{known.stat().dev, known.stat().ino},
                       proto::join_path(was->path, item.name));
    if (found && own && was_directory != S_ISDIR(item.st.st_mode))
      was_removed(proto::join_path(target.path, item.name), known.entry, known.stat());
    add_entry(work, item, found ? &known : nullptr);
    if (S_ISDIR(item.st.st_mode)) enter(target, item, own && was_directory ? &known : nullptr);
    if (found) known.next();
  }
  for (; known.more; known.next())
    if (own) was_removed(proto::join_path(target.path, known.entry.name), known.entry, known.stat());
  std::reverse(stack_.begin() + static_cast<std::ptrdiff_t>(children), stack_.end());
  if (batch_.jobs.size() >= 512 || batch_.works.size() >= 128 ||
      batch_.bytes >= 256 * 1024 * 1024)
    settle_batch();
}

// Another filesystem was mounted on this directory, and is not any more: what it holds now says nothing
// of what it held. It is gone when the directory itself is.
bool Scanner::Run::unmounted(const struct stat& now, std::uint64_t known_device) const {
  return now.st_dev == root_stat_.st_dev && known_device != root_stat_.st_dev &&
         known_device != known_root_device_;
}

bool Scanner::Run::unmounted(const Bytes& path, const struct stat& now) const {
  if (s_.settings_.one_file_system || path.empty() || now.st_dev != root_stat_.st_dev) return false;
  const auto above = index_.latest(proto::parent_path(path));
  if (!above) return false;
  for (Known known(&*above); known.more; known.next())
    if (known.entry.name == proto::last_name(path))
      return known.entry.type == EntryType::Directory && unmounted(now, known.stat().dev);
  return false;
}

void Scanner::Run::add_entry(Work& work, const Item& item, const Known* known) {
  const std::size_t at = work.entries.size();
  EntryStat now = EntryStat::of(item.st);
  Entry entry;
  Work::Note note;
  if (known && as_it_was(item, known->entry, known->stat())) {
    entry = known->entry;
    now.flags = known->stat().flags;
    // In a row of its own the links are noted already.
    note.changed = work.path != known->row->path;
    note.links = item.st.st_nlink - (now.flags & EntryStat::kHeld ? 1 : 0);
    work.entries.push_back(std::move(entry));
    work.stats.push_back(now);
    work.notes.push_back(note);
    if (reread_ || now.flags & EntryStat::kXattrsAgain) take_xattrs(work, at, now_);
    return;
  }
  entry.name = item.name;
  if (!describe(item.st, entry)) {
    problem(Kind::BadName, proto::join_path(work.path, item.name), EINVAL);
    return;
  }
  note.changed = true;
  note.links = item.st.st_nlink;
  if (entry.type == EntryType::Directory) {
    const bool was = known && known->entry.type == EntryType::Directory;
    entry.content = was ? known->entry.content : kUnsealedId;
  } else if (entry.type == EntryType::Symlink) {
    char text[proto::kMaxLinkTargetSize + 1];
    const ssize_t n = ::readlinkat(work.dir.get(), entry.name.c_str(), text, sizeof text);
    if (n <= 0 || static_cast<std::size_t>(n) >= sizeof text) {
      problem(Kind::Vanished, proto::join_path(work.path, item.name), n < 0 ? errno : 0);
      look_again(work.path);
      return;
    }
    entry.target.assign(text, static_cast<std::size_t>(n));
  }
  work.entries.push_back(std::move(entry));
  work.stats.push_back(now);
  work.notes.push_back(note);
  if (S_ISREG(item.st.st_mode))
    add_file(work, at, item, known);
  else
    take_xattrs(work, at, now_);
}

void Scanner::Run::add_file(Work& work, std::size_t at, const Item& item, const Known* known) {
  const Inode inode{item.st.st_dev, item.st.st_ino};
  if (item.st.st_nlink > 1) {
    if (const auto it = batch_.linked.find(inode); it != batch_.linked.end()) {
      it->second->names.emplace_back(&work, at);
      return;
    }
  }
  Job& job = batch_.jobs.emplace_back();
  job.names.emplace_back(&work, at);
  job.size = static_cast<std::uint64_t>(item.st.st_size);
  batch_.bytes += job.size;
  if (known && known->entry.type == EntryType::File)
    job.before = {known->entry.content, known->stat().dev, known->stat().ino,
                  s_.late_ && (known->stat().flags & EntryStat::kHeld) != 0};
  if (item.st.st_nlink > 1) batch_.linked[inode] = &job;
}

void Scanner::Run::staged() {
  if (++staged_ % kRowsPerCommit != 0) return;
  open_batch_->commit();
  open_batch_ = std::make_unique<Index::Batch>(index_);
}

}  // namespace mirrorbus::tree
