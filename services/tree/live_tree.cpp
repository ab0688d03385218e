#include "services/tree/live_tree.hpp"

#include "proto/tree_path.hpp"
#include "services/tree/file_reader.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using proto::join_path;
using proto::Node;

namespace {

// Stands for what is there but was not asked after: no hash is this by chance.
Hash unknown_hash() {
  Hash hash;
  hash.octets.fill(0xff);
  return hash;
}

Node decode(ByteView bytes) {
  auto node = proto::decode_node(bytes);
  if (!node) throw std::runtime_error("the index holds a damaged node");
  return std::move(*node);
}

OldDirectory decode(const DirectoryRow& row) {
  OldDirectory directory{decode(row.node), row.stats};
  if (directory.stats.size() != directory.node.entries.size())
    throw std::runtime_error("the index holds a node and stats that do not fit");
  return directory;
}

bool same_content(const Entry& a, const Entry& b) {
  return a.type == b.type && a.size == b.size && a.target == b.target && a.major == b.major &&
         a.minor == b.minor && (a.type != EntryType::File || a.content == b.content);
}

}  // namespace

LiveTree::LiveTree(const Index& index, RootDir& root, const EntryOps& ops,
                   const MetadataPolicy& policy, Trust trust, int work_dir, LocalEdits* edits)
    : index_(index),
      root_(root),
      ops_(ops),
      policy_(policy),
      trust_(trust),
      edits_(edits),
      spool_(work_dir) {}

void LiveTree::look_into(ByteView path) {
  while (uncertain_.emplace(path).second && !path.empty()) path = proto::parent_path(path);
}

void LiveTree::now_is(const DirectoryRow& row) {
  known_[row.path] = {spool_.put(row.node), spool_.put(stats_view(row.stats))};
}

void LiveTree::remember(ByteView path, const OldDirectory& directory) {
  known_[Bytes(path)] = {spool_.put(proto::encode_node(directory.node)),
                         spool_.put(stats_view(directory.stats))};
}

std::optional<DirectoryRow> LiveTree::row(ByteView path) const {
  const auto found = known_.find(Bytes(path));
  if (found == known_.end()) return index_.directory(path);
  return DirectoryRow{
      Bytes(path), {}, spool_.get(found->second.node), stats_of(spool_.get(found->second.stats))};
}

std::optional<OldDirectory> LiveTree::again(ByteView path) const {
  const auto row = this->row(path);
  if (!row) return {};
  return decode(*row);
}

std::optional<Hash> LiveTree::name_root_xattrs(const Entry& target) const {
  const auto known = index_.root();
  const bool some_missing = known && known->stat.flags & EntryStat::kXattrsShort;
  return policy_.name_xattrs(root_.fd(), {}, {&target, known ? &known->entry : nullptr},
                             some_missing);
}

bool LiveTree::uncertain(ByteView path) {
  return trust_ != Trust::Index || everywhere_ || (!uncertain_.empty() && uncertain_.contains(Bytes(path)));
}

std::optional<Hash> LiveTree::listed(ByteView path) {
  const auto row = index_.directory(path);
  return row ? std::optional(row->id) : std::nullopt;
}

std::optional<OldDirectory> LiveTree::directory(ByteView path, const EntryStat& stat,
                                                const Node* target) {
  auto known = again(path);
  std::optional<RootDir::Dir> dir;
  try {
    dir = root_.open(path);
  } catch (const std::system_error& error) {
    const int why = error.code().value();
    // A plain user's closed directory: what the index says is all there is to go by.
    if (why == EACCES && known) return known;
    if (why == ENOENT || why == ENOTDIR || why == ELOOP) return {};
    throw;
  }
  struct stat st;
  if (::fstat(dir->get(), &st) != 0) base::throw_errno("stat directory " + Bytes(path));
  const bool as_it_was =
      known && OldDirectory::known(stat) && EntryStat::of(st).same_but_device(stat) &&
      std::ranges::none_of(known->stats, [&known](const EntryStat& each) {
        const auto at = static_cast<std::size_t>(&each - known->stats.data());
        return !OldDirectory::known(each) && known->node.entries[at].type == EntryType::Directory;
      });
  if (as_it_was && trust_ == Trust::Index) return known;
  OldDirectory now = observe(path, dir->get(), known ? &*known : nullptr, target);
  remember(path, now);
  return now;
}

OldDirectory LiveTree::observe(ByteView path, int dir, const OldDirectory* known,
                               const Node* target) {
  std::vector<Bytes> names = ops_.list(dir);
  std::ranges::sort(names);
  OldDirectory now;
  std::size_t was = 0;
  const auto was_size = known ? known->node.entries.size() : 0;
  const auto target_of = [target](ByteView name) { return target ? target->find(name) : nullptr; };
  const auto lost = [&](const Entry& entry) {
    if (OldDirectory::known(known->stats[was]))
      report(join_path(path, entry.name), &entry, nullptr, false, false, target_of(entry.name));
  };
  for (const Bytes& name : names) {
    if (!proto::valid_entry_name(name)) continue;  // our own work folder
    if (ignored_ && ignored_(join_path(path, name))) continue;
    const auto st = ops_.look(dir, name);
    Entry entry;
    entry.name = name;
    if (!st || !describe(*st, entry)) continue;
    for (; was < was_size && known->node.entries[was].name < name; ++was)
      lost(known->node.entries[was]);
    const bool had = was < was_size && known->node.entries[was].name == name;
    const Entry* before = had ? &known->node.entries[was] : nullptr;
    const EntryStat before_stat = had ? known->stats[was++] : EntryStat{};
    EntryStat stat = EntryStat::of(*st);
    const Bytes full = join_path(path, name);
    const bool as_it_was =
        had && OldDirectory::known(before_stat) && stat.same_but_device(before_stat);
    const bool read_it = trust_ == Trust::Hashes && entry.type == EntryType::File;
    if (as_it_was && (!read_it || content_is(dir, *before))) {
      entry = *before;
      stat.flags = before_stat.flags;
    } else {
      const Entry* wanted = target_of(name);
      observe_entry(full, dir, before, before_stat, wanted, entry, stat);
      report(full, OldDirectory::known(before_stat) ? before : nullptr, &entry,
             OldDirectory::known(stat), had && st->st_ino == before_stat.ino, wanted);
    }
    bool linked = st->st_nlink > 1 && !S_ISDIR(st->st_mode);
    if (linked && trust_ == Trust::Index && stat.ino != before_stat.ino) {
      // Somebody else's link, most likely to a file we are not looking at: not to be relied on.
      stat.ino = 0;
      linked = false;
    }
    now.linked.push_back(linked && trust_ != Trust::Index);
    now.node.entries.push_back(std::move(entry));
    now.stats.push_back(stat);
  }
  for (; was < was_size; ++was) lost(known->node.entries[was]);
  return now;
}

bool LiveTree::content_is(int dir, const Entry& entry) {
  const auto read = read_file(dir, entry.name);
  // A plain user's own file of a mode that forbids reading: its lstat, ctime included, is all there
  // is to go by.
  if (!read) return errno == EACCES;
  ++files_read_;
  bytes_read_ += static_cast<std::uint64_t>(read->st.st_size);
  if (on_read_) on_read_(files_read_, bytes_read_);
  return read->content == entry.content;
}

// Fills in what lstat does not say: content, link target, child id. A file of unknown content ends
// with a stat of no inode.
void LiveTree::observe_entry(const Bytes& path, int dir, const Entry* known, const EntryStat& stat,
                             const Entry* target, Entry& entry, EntryStat& now) {
  entry.mode = policy_.name_mode(entry, {target, known});
  if (policy_.xattrs()) {
    // Where this user or filesystem cannot have all of them, those that are there must be right.
    const bool some_missing = stat.flags & EntryStat::kXattrsShort;
    entry.xattrs = policy_.name_xattrs(dir, entry.name, {target, known}, some_missing);
    if (some_missing) now.flags |= EntryStat::kXattrsShort;
  }
  if (entry.type == EntryType::Directory) {
    entry.content = known && known->type == EntryType::Directory ? known->content : unknown_hash();
    look_into(path);
    return;
  }
  if (entry.type == EntryType::Symlink) entry.target = ops_.read_link(dir, entry.name);
  if (entry.type != EntryType::File) return;

  const bool may_be_target =
      target && target->type == EntryType::File && target->size == entry.size;
  const bool as_target = may_be_target && policy_.same_metadata(entry, *target);
  // Just as an interrupted apply leaves it: the same inode, the same content due, times set.
  const bool metadata_was_set = as_target && known && same_content(*known, *target) &&
                                OldDirectory::known(stat) && stat.ino == now.ino &&
                                trust_ == Trust::Nothing;
  if (metadata_was_set || (as_target && trust_ == Trust::OwnWrites)) {
    entry.content = target->content;
    return;
  }
  if (may_be_target || trust_ == Trust::Contents || trust_ == Trust::Hashes) {
    if (const auto read = read_file(dir, entry.name)) {
      ++files_read_;
      bytes_read_ += static_cast<std::uint64_t>(read->st.st_size);
      entry.content = read->content;
      entry.size = static_cast<std::uint64_t>(read->st.st_size);
      now = EntryStat::of(read->st);
      return;
    }
  }
  entry.content = unknown_hash();
  now.ino = 0;
}

// An edit is what is neither as it was nor as it is going to be. After an interrupted apply
// metadata say nothing: they may be half set.
void LiveTree::report(const Bytes& path, const Entry* known, const Entry* now, bool content_known,
                      bool same_inode, const Entry* target) {
  if (!edits_ || trust_ == Trust::Contents || trust_ == Trust::OwnWrites) return;
  const bool interrupted = trust_ == Trust::Nothing;
  const auto is_like = [&](const Entry* other) {
    if (!now || !other) return now == other;
    if (now->type != other->type) return false;
    if (now->type == EntryType::Directory)  // its times follow its names, which are told of
      return interrupted || now->mode == other->mode;
    if (interrupted && same_inode && other == known && now->size == other->size) return true;
    return content_known && same_content(*now, *other) &&
           (interrupted || policy_.same_metadata(*now, *other));
  };
  if (is_like(known) || is_like(target)) return;
  edits_->add(path, !known ? LocalEdit::Kind::Added
                   : now  ? LocalEdit::Kind::Changed
                          : LocalEdit::Kind::Removed);
}

void LiveTree::find_contents(const Wanted& wanted, const Found& found) {
  const auto look = [&](ByteView path, ByteView node, const std::vector<EntryStat>& stats) {
    proto::NodeReader reader(node);
    Entry entry;
    for (std::uint32_t at = 0; reader.next(entry) && at < stats.size(); ++at)
      if (entry.type == EntryType::File && OldDirectory::known(stats[at]) &&
          wanted(entry.content))
        found(path, at, entry, stats[at]);
  };
  index_.each_directory({}, [&](const DirectoryRow& row) {
    if (!known_.contains(row.path)) look(row.path, row.node, row.stats);
    return true;
  });
  for (const auto& [path, known] : known_)
    look(path, spool_.get(known.node), stats_of(spool_.get(known.stats)));
}

}  // namespace mirrorbus::tree
