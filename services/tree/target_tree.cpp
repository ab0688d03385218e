#include "services/tree/target_tree.hpp"

#include "proto/sha256.hpp"
#include "proto/xattr_set.hpp"
#include "services/tree/index_xattrs.hpp"

namespace mirrorbus::tree {

using proto::Bytes;
using proto::ByteView;
using proto::Entry;
using proto::EntryType;
using proto::Hash;

namespace {

constexpr std::uint64_t kMaxRootSize = 64 * 1024;

// Takes blobs, hashes them, keeps the good ones.
class BlobSink : public ContentSink {
 public:
  BlobSink(ContentSource& source, BlobCache& cache, std::uint64_t limit)
      : source_(source), cache_(cache), limit_(limit) {}

  void begin(const Hash& hash) override {
    hash_ = hash;
    bytes_.clear();
    open_ = true;
  }
  void write(ByteView bytes) override {
    if (!open_) return;
    if (bytes.size() > limit_ - bytes_.size()) {
      open_ = false;
      source_.bad(hash_, proto::Reject::TooLarge, "is larger than it may be");
      return;
    }
    bytes_ += bytes;
  }
  void end() override {
    if (!open_) return;
    open_ = false;
    if (proto::sha256(bytes_) == hash_)
      cache_.put(hash_, bytes_);
    else
      source_.bad(hash_, proto::Reject::BadHash, "is not what its hash says");
  }
  void gone(const Hash&, const std::string& reason) override { reason_ = reason; }

  const std::string& reason() const { return reason_; }

 private:
  ContentSource& source_;
  BlobCache& cache_;
  std::uint64_t limit_;
  Hash hash_;
  Bytes bytes_;
  bool open_ = false;
  std::string reason_ = "no answer";
};

}  // namespace

TargetTree::TargetTree(const Index& index, BlobCache& cache) : index_(index), cache_(cache) {}

std::optional<Bytes> TargetTree::find(const Hash& id) const {
  if (auto cached = cache_.get(id)) return cached;
  return index_.blob(id);
}

Bytes TargetTree::encoded(const Hash& id) const {
  auto bytes = find(id);
  if (!bytes) throw std::runtime_error("node " + to_hex(id) + " is not at hand");
  return std::move(*bytes);
}

void TargetTree::ask(ContentSource& source, const std::vector<Hash>& ids, std::uint64_t limit) {
  // Again for what was cut off or damaged.
  std::vector<Hash> wanted = ids;
  std::string reason;
  for (std::size_t round = 0; round <= source.places() && !wanted.empty(); ++round) {
    BlobSink sink(source, cache_, limit);
    source.fetch_nodes(wanted, limit, sink);
    std::erase_if(wanted, [this](const Hash& id) { return cache_.has(id); });
    reason = sink.reason();
  }
  if (!wanted.empty())
    throw SourceError(source.name() + " did not send " + to_hex(wanted.front()) + ": " + reason);
}

void TargetTree::ask_in_batches(ContentSource& source, const std::vector<Hash>& ids,
                                std::uint64_t limit, const WorkControl& control) {
  for (std::size_t from = 0; from < ids.size(); from += ContentSource::kBatch) {
    control.check();
    const auto to = std::min(ids.size(), from + ContentSource::kBatch);
    ask(source,
        {ids.begin() + static_cast<std::ptrdiff_t>(from),
         ids.begin() + static_cast<std::ptrdiff_t>(to)},
        limit);
  }
}

Bytes TargetTree::get(ContentSource& source, const Hash& id, std::uint64_t limit) {
  if (auto bytes = find(id)) return std::move(*bytes);
  ask(source, {id}, limit);
  return encoded(id);
}

proto::Decoded<void> TargetTree::set(const proto::TreeRoot& root, const Bytes& links,
                                     const Bytes& owners) {
  auto links_table = proto::decode_links(links);
  if (!links_table) return proto::refuse(links_table.error());
  auto owners_table = proto::decode_owners(owners);
  if (!owners_table) return proto::refuse(owners_table.error());
  root_ = root;
  links_ = std::move(*links_table);
  owners_ = std::move(*owners_table);
  links_bytes_ = links;
  owners_bytes_ = owners;
  new_xattr_sets_.clear();
  noted_.clear();
  all_noted_ = false;
  return {};
}

proto::Decoded<void> TargetTree::fetch(ContentSource& source, const Hash& tree_hash,
                                       const proto::TreeCounts& counts,
                                       const WorkControl& control) {
  const auto root = proto::decode_tree_root(get(source, tree_hash, kMaxRootSize));
  if (!root) return proto::refuse(root.error());
  const Bytes links = get(source, root->links, proto::kMaxLinksSize);
  const Bytes owners = get(source, root->owners, proto::kMaxOwnersSize);
  if (auto tables = set(*root, links, owners); !tables) return tables;

  // Level by level: each is one or a few requests, however many directories there are.
  std::unordered_set<Hash> met{root->entry.content};
  std::vector<Hash> level{root->entry.content};
  std::uint64_t entries = 0;
  note_xattrs(root->entry);
  while (!level.empty()) {
    std::erase_if(level, [this](const Hash& id) {
      // With everything below it.
      return !cache_.has(id) && !index_.paths_of_node(id).empty();
    });
    std::vector<Hash> wanted;
    for (const Hash& id : level)
      if (!find(id)) wanted.push_back(id);
    ask_in_batches(source, wanted, proto::kMaxNodeSize, control);
    std::vector<Hash> below;
    for (const Hash& id : level) {
      const Bytes node = encoded(id);
      proto::NodeReader reader(node);
      Entry entry;
      while (reader.next(entry)) {
        if (++entries > counts.entries) return proto::refuse(proto::Reject::BadCount);
        note_xattrs(entry);
        if (entry.type == EntryType::Directory && met.insert(entry.content).second)
          below.push_back(entry.content);
      }
      if (reader.failure()) return proto::refuse(*reader.failure());
    }
    level = std::move(below);
    control.report({Phase::Fetching, 0, 0, entries, counts.entries});
  }
  all_noted_ = true;
  return {};
}

void TargetTree::note_xattrs(const Entry& entry) {
  const auto& id = entry.xattrs;
  if (id && noted_.insert(*id).second && !index_.xattr_sets().find(*id))
    new_xattr_sets_.push_back(*id);
}

// Through the directories the committed tree has not: what the others name is known.
void TargetTree::look_for_xattrs() {
  std::unordered_set<Hash> met{root_.entry.content};
  std::vector<Hash> rest{root_.entry.content};
  note_xattrs(root_.entry);
  while (!rest.empty()) {
    const Hash id = rest.back();
    rest.pop_back();
    if (!index_.paths_of_node(id).empty()) continue;
    const Bytes node = encoded(id);
    proto::NodeReader reader(node);
    Entry entry;
    while (reader.next(entry)) {
      note_xattrs(entry);
      if (entry.type == EntryType::Directory && met.insert(entry.content).second)
        rest.push_back(entry.content);
    }
  }
  all_noted_ = true;
}

proto::Decoded<void> TargetTree::fetch_xattr_sets(ContentSource& source,
                                                  const WorkControl& control) {
  if (!all_noted_) look_for_xattrs();  // out of a pack
  std::vector<Hash> wanted;
  for (const Hash& id : new_xattr_sets_)
    if (!cache_.has(id)) wanted.push_back(id);
  ask_in_batches(source, wanted, proto::kMaxXattrSetSize, control);
  for (const Hash& id : new_xattr_sets_)
    if (const auto set = proto::decode_xattr_set(encoded(id)); !set)
      return proto::refuse(set.error());
  return {};
}

}  // namespace mirrorbus::tree
