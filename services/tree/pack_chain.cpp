#include "services/tree/pack_chain.hpp"

#include "proto/tree_path.hpp"
#include "proto/xattr_set.hpp"
#include "services/tree/file_reader.hpp"
#include "services/tree/mirror_tree.hpp"
#include "services/tree/spool.hpp"

#include <algorithm>
#include <exception>
#include <thread>

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Hash;

namespace {

constexpr unsigned kThreads = 2;

}  // namespace

PackChain::PackChain(int work, TargetTree& target, const Index& index, const WorkControl& control)
    : target_(target), index_(index), control_(control), shelf_(work) {}
PackChain::~PackChain() = default;

std::optional<PackReader> PackChain::read(const TargetVersion& version, ContentSource& source) {
  const proto::TreeUpdate& update = version.update;
  if (!update.pack) return {};
  PackBytes bytes(update.inline_pack);  // signed with the event: there is nothing to compare it with
  if (update.inline_pack.empty()) {
    base::Fd file = shelf_.fetch(*update.pack, source);
    if (!file) return {};
    bytes = PackBytes(std::move(file), update.pack->size);
  }
  auto reader = PackReader::open(std::move(bytes), &*update.pack);
  if (reader) return std::move(*reader);
  source.bad(update.pack->sha256, reader.error(), "is a pack nobody can read");
  return {};
}

bool PackChain::open(const std::vector<TargetVersion>& versions,
                     const std::optional<StoredVersion>& committed, ContentSource& source) {
  // The versions after the committed one.
  Hash parent = committed ? proto::version_hash(committed->record) : Hash{};
  auto from = versions.begin();
  while (from != versions.end() && from->update.record.parent != parent) ++from;
  if (from == versions.end()) return false;
  for (auto it = from; it != versions.end(); ++it) {
    if (it->update.record.parent != parent || !it->update.pack) return false;
    parent = proto::version_hash(it->update.record);
  }

  const auto nodes = [this](const Hash& id) { return target_.find(id); };
  TreeView base;
  if (committed) {
    const auto links = index_.blob(committed->root.links);
    const auto owners = index_.blob(committed->root.owners);
    if (!links || !owners) return false;
    base = TreeView(nodes, committed->root, *links, *owners);
  }
  for (auto it = from; it != versions.end(); ++it) {
    control_.check();
    auto reader = read(*it, source);
    if (!reader) return false;
    const auto tables = reader->read_nodes(
        base, it->update.record.tree_hash,
        [this](const Bytes&, const Hash& id, const Bytes& node) { target_.put(id, node); });
    if (!tables) {
      source.bad(it->update.pack->sha256, tables.error(), "is a pack that does not lead to the signed tree");
      readers_.clear();
      return false;
    }
    for (const Bytes& set : reader->xattr_sets())
      if (const Hash id = proto::xattr_set_id(set); !target_.find(id)) target_.put(id, set);
    const proto::TreeRoot& root = reader->index().root;
    target_.put(it->update.record.tree_hash, proto::encode_tree_root(root));
    target_.put(root.links, tables->links);
    target_.put(root.owners, tables->owners);
    if (!target_.set(root, tables->links, tables->owners)) return false;
    base = TreeView(nodes, root, tables->links, tables->owners);
    hashes_.push_back(it->update.pack->sha256);
    readers_.push_back(std::move(*reader));
  }
  return true;
}

bool PackChain::offers(const Hash& content) const {
  return std::ranges::any_of(readers_, [&](const PackReader& r) { return r.offers(content); });
}

// From the last pack to the first: what it has to make, and what that needs of those before.
std::vector<PackChain::Job> PackChain::jobs(const Stager& stager) const {
  std::vector<Job> jobs(readers_.size());
  std::unordered_set<Hash> open;
  for (const Wanted& each : stager.wanted()) open.insert(each.hash);
  for (std::size_t number = readers_.size(); number-- > 0;) {
    const PackReader& reader = readers_[number];
    const auto& targets = reader.targets().all();
    Job& job = jobs[number];
    std::vector<Hash> bases;
    const auto makes = [&](std::size_t target) {
      const Hash& hash = targets[target].file.hash;
      if (!open.contains(hash)) return false;
      job.wanted.insert(hash);
      return true;
    };
    for (std::size_t copy = 0; copy < reader.copies().size(); ++copy) {
      if (!makes(reader.copies()[copy].target)) continue;
      job.copies.push_back(copy);
      if (number > 0 && !base_is_live(reader.copies()[copy].from))
        bases.push_back(reader.copies()[copy].from.hash);
    }
    for (std::size_t group = 0; group < reader.groups().size(); ++group) {
      const auto& items = reader.groups()[group];
      bool wanted = false;
      for (const auto& item : items) wanted |= makes(item.target);
      if (!wanted) continue;
      job.groups.push_back(group);
      for (const auto& item : items)
        if (number > 0 && item.base && !base_is_live(*item.base)) bases.push_back(item.base->hash);
    }
    for (std::size_t large = 0; large < reader.large().size(); ++large) {
      const auto& item = reader.large()[large];
      if (!makes(item.target)) continue;
      job.large.push_back(large);
      if (number > 0 && !base_is_live(*item.base)) bases.push_back(item.base->hash);
    }
    for (const Hash& hash : job.wanted) open.erase(hash);
    open.insert(bases.begin(), bases.end());
  }
  return jobs;
}

// The committed tree has it at this path; whether the file there still is that, reading will tell.
bool PackChain::base_is_live(const FileRef& base) const {
  const auto row = index_.directory(proto::parent_path(base.path));
  if (!row) return false;
  const auto entry = find_entry(row->node, proto::last_name(base.path));
  return entry && entry->type == proto::EntryType::File && entry->content == base.hash;
}

void PackChain::contents(Stager& stager, Staging& staging, const RootDir& root,
                         ContentSource& source) {
  if (std::ranges::none_of(readers_, &PackReader::has_contents)) return;
  const std::vector<Job> jobs = this->jobs(stager);
  for (std::size_t pack = 0; pack < jobs.size(); ++pack)
    run(pack, jobs[pack], stager, staging, root, source);
}

void PackChain::made(const Hash& hash, ByteView content, Stager& stager, Staging& staging) {
  {
    const std::lock_guard lock(mutex_);
    if (!needed_.erase(hash)) return;
  }
  const std::uint32_t number = staging.put(hash, content);
  const std::lock_guard lock(mutex_);
  making_[hash] = number;
  if (stager.wants(hash)) stager.take(hash, number);
}

std::optional<PackChain::OpenBase> PackChain::open_base(const FileRef& base, RootDir& root,
                                                        const Staging& staging) const {
  int dir = staging.dir();
  Bytes name;
  std::optional<RootDir::Dir> live;
  if (const auto staged = made_.find(base.hash); staged != made_.end()) {
    name = Staging::content_name(base.hash, staged->second);
  } else {
    try {
      live = root.open(proto::parent_path(base.path));
    } catch (const std::system_error&) {
      return {};
    }
    dir = live->get();
    name = proto::last_name(base.path);
  }
  auto file = open_file(dir, name);
  if (!file || static_cast<std::uint64_t>(file->st.st_size) != base.size) return {};
  return OpenBase{std::move(file->fd), base.size};
}

std::optional<Bytes> PackChain::read_base(const FileRef& base, RootDir& root,
                                          const Staging& staging) const {
  const auto file = open_base(base, root, staging);
  if (!file) return {};
  try {
    return read_exactly_at(file->fd.get(), base.size, 0, base.path);
  } catch (const std::exception&) {
    return {};  // cut while we read, or unreadable: fetched instead
  }
}

// A large file from its pieces, straight into staging. What was wrong, if the pack is to blame.
std::optional<proto::Reject> PackChain::put_together(const PackReader& reader, std::size_t large,
                                                     PatchDecoder& decoder, RootDir& root,
                                                     Stager& stager, Staging& staging) {
  const PackReader::Item& item = reader.large()[large];
  const FileRef& target = reader.targets().all()[item.target].file;
  {
    const std::lock_guard lock(mutex_);
    if (!needed_.contains(target.hash)) return {};
  }
  const auto base = open_base(*item.base, root, staging);
  if (!base) return {};
  StagedFile file(staging, {target.hash, target.size});
  const auto base_is_sound = [&] {
    return hash_of_file(base->fd.get(), base->size, item.base->path) == item.base->hash;
  };
  const auto& pieces = reader.pieces(large);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    control_.check();
    Bytes prefix;
    try {
      prefix = read_exactly_at(base->fd.get(), pieces[i].base_size, pieces[i].base_offset,
                               item.base->path);
    } catch (const std::exception&) {
      return {};  // cut while we read, or unreadable: fetched instead
    }
    const auto piece = reader.read_piece(large, i, decoder, prefix);
    if (!piece) return piece.error();
    file.write(*piece);
  }
  const auto number = file.finish();
  if (!number) return base_is_sound() ? std::optional(proto::Reject::BadHash) : std::nullopt;
  const std::lock_guard lock(mutex_);
  if (!needed_.erase(target.hash)) return {};
  making_[target.hash] = *number;
  if (stager.wants(target.hash)) stager.take(target.hash, *number);
  return {};
}

void PackChain::run(std::size_t pack, const Job& job, Stager& stager, Staging& staging,
                    const RootDir& root, ContentSource& source) {
  const PackReader& reader = readers_[pack];
  // Made before (for an earlier pack's target of the same content) is made.
  needed_ = job.wanted;
  std::erase_if(needed_, [this](const Hash& hash) { return made_.contains(hash); });
  std::atomic<std::size_t> next{0};
  std::exception_ptr failed;
  std::optional<proto::Reject> bad;

  const auto work = [&] {
    try {
      RootDir own = root.clone();
      PatchDecoder decoder;
      const PackReader::ReadBase read = [&](const FileRef& base) {
        return read_base(base, own, staging);
      };
      for (;;) {
        const std::size_t at = next.fetch_add(1);
        if (at < job.copies.size()) {
          const PackReader::Copy& copy = reader.copies()[job.copies[at]];
          const auto content = read(copy.from);
          if (content && proto::sha256(*content) == copy.from.hash)
            made(copy.from.hash, *content, stager, staging);
          continue;
        }
        // The large ones last: the others fill their time.
        const std::size_t group = at - job.copies.size();
        if (group >= job.groups.size()) {
          const std::size_t large = group - job.groups.size();
          if (large >= job.large.size()) return;
          const auto why =
              put_together(reader, job.large[large], decoder, own, stager, staging);
          const std::lock_guard lock(mutex_);
          if (why) bad = why;
          continue;
        }
        const auto done = reader.read_group(job.groups[group], decoder, read,
                                            [&](const PackTarget& target, ByteView content) {
                                              made(target.file.hash, content, stager, staging);
                                            });
        if (!done && done.error() != proto::Reject::MissingBase) {
          const std::lock_guard lock(mutex_);
          bad = done.error();
        }
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failed) failed = std::current_exception();
      next = SIZE_MAX / 2;
    }
  };
  const std::size_t jobs = job.groups.size() + job.copies.size() + job.large.size();
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < kThreads && i < jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  made_.merge(making_);
  making_.clear();
  if (failed) std::rethrow_exception(failed);
  if (bad) source.bad(hashes_[pack], *bad, "is a pack with a content that is not what was signed");
}

void PackChain::clear() {
  readers_.clear();
  made_.clear();
  shelf_.drop_unfinished();
}

}  // namespace mirrorbus::tree
