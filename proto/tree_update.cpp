#include "proto/tree_update.hpp"

#include "proto/limits.hpp"

#include <array>
#include <utility>

namespace mirrorbus::proto {
namespace {

constexpr std::array<std::pair<ChangeOp, std::string_view>, 5> kOps{{
    {ChangeOp::Add, "add"},
    {ChangeOp::Change, "change"},
    {ChangeOp::Meta, "meta"},
    {ChangeOp::Delete, "delete"},
    {ChangeOp::Move, "move"},
}};

Value counts_value(const TreeCounts& n) {
  return Map{{"entries", n.entries},
             {"files", n.files},
             {"directories", n.directories},
             {"symlinks", n.symlinks},
             {"bytes", n.bytes}};
}

// Reads required fields and remembers the first fault, as Reader does for bytes.
struct Fields {
  const Value& map;
  std::optional<Reject> failure;

  template <class T>
  T get(std::string_view key) {
    auto value = field<T>(map, key);
    if (!value && !failure) failure = value.error();
    return value ? std::move(*value) : T{};
  }
  bool flag(std::string_view key) {
    const Value* value = map.find(key);
    if (!value) return false;
    const auto set = value->as_bool();
    if (!set && !failure) failure = Reject::WrongType;
    return set.value_or(false);
  }
};

Decoded<TreeCounts> counts_of(const Value* value) {
  if (!value) return refuse(Reject::MissingKey);
  if (!value->as_map()) return refuse(Reject::WrongType);
  Fields f{*value, {}};
  TreeCounts n;
  n.entries = f.get<std::uint64_t>("entries");
  n.files = f.get<std::uint64_t>("files");
  n.directories = f.get<std::uint64_t>("directories");
  n.symlinks = f.get<std::uint64_t>("symlinks");
  n.bytes = f.get<std::uint64_t>("bytes");
  if (f.failure) return refuse(*f.failure);
  return n;
}

Decoded<PackRef> pack_of(const Value& value) {
  if (!value.as_map()) return refuse(Reject::WrongType);
  Fields f{value, {}};
  PackRef pack;
  pack.sha256 = f.get<Hash>("sha256");
  pack.size = f.get<std::uint64_t>("size");
  pack.index_size = f.get<std::uint64_t>("index_size");
  pack.index_sha256 = f.get<Hash>("index_sha256");
  if (f.failure) return refuse(*f.failure);
  if (pack.index_size > pack.size || pack.size > INT64_MAX) return refuse(Reject::BadField);
  return pack;
}

}  // namespace

std::string_view to_string(ChangeOp op) {
  for (const auto& [value, text] : kOps)
    if (value == op) return text;
  return "unknown";
}

Value path_value(ByteView path) {
  if (valid_utf8(path)) return Value(path);
  return Value(Binary{Bytes(path)});
}

Decoded<Bytes> path_of_value(const Value& value) {
  const Bytes* bytes = value.as_text() ? value.as_text() : value.as_binary();
  if (!bytes) return refuse(Reject::WrongType);
  // The root itself may have changed: the empty path.
  if (!bytes->empty() && !valid_tree_path(*bytes)) return refuse(Reject::BadName);
  return *bytes;
}

Value to_value(const Change& change) {
  Array item{to_string(change.op), path_value(change.path)};
  if (change.op == ChangeOp::Move) item.push_back(path_value(change.to));
  return item;
}

Decoded<Change> decode_change(const Value& value) {
  const Array* item = value.as_array();
  if (!item) return refuse(Reject::WrongType);
  if (item->empty()) return refuse(Reject::BadCount);
  const std::string* op = (*item)[0].as_text();
  if (!op) return refuse(Reject::WrongType);
  for (const auto& [known, text] : kOps) {
    if (text != *op) continue;
    const bool move = known == ChangeOp::Move;
    if (item->size() != (move ? 3 : 2)) return refuse(Reject::BadCount);
    Change change{known, {}, {}};
    auto path = path_of_value((*item)[1]);
    if (!path) return refuse(path.error());
    change.path = std::move(*path);
    if (move) {
      auto to = path_of_value((*item)[2]);
      if (!to) return refuse(to.error());
      change.to = std::move(*to);
    }
    return change;
  }
  return refuse(Reject::BadField);
}

void add_change(TreeUpdate& update, Change change) {
  ++update.changes_total;
  if (update.changes_more) return;
  // An op, two lengths and the array's own byte, at their longest.
  constexpr std::size_t kOverhead = 16;
  std::size_t size = change.path.size() + change.to.size() + kOverhead;
  for (const Change& c : update.changes) size += c.path.size() + c.to.size() + kOverhead;
  if (update.changes.size() >= kMaxUpdateChanges || size > kMaxUpdateChangesSize)
    update.changes_more = true;
  else
    update.changes.push_back(std::move(change));
}

Value to_value(const TreeUpdate& u) {
  const VersionRecord& r = u.record;
  Map body{{"tree", Binary{Bytes(r.tree.view())}},
           {"number", r.number},
           {"parent", r.parent},
           {"tree_hash", r.tree_hash},
           {"counts", counts_value(r.counts)},
           {"time", r.time_ns}};
  if (!r.extensions.empty()) body.emplace_back("extensions", Binary{r.extensions});
  if (u.pack) {
    Map pack{{"sha256", u.pack->sha256},
             {"size", u.pack->size},
             {"index_size", u.pack->index_size},
             {"index_sha256", u.pack->index_sha256}};
    if (!u.inline_pack.empty()) pack.emplace_back("inline", Binary{u.inline_pack});
    body.emplace_back("pack", std::move(pack));
  }
  Array changes;
  for (const Change& change : u.changes) changes.push_back(to_value(change));
  body.emplace_back("changes", std::move(changes));
  body.emplace_back("changes_total", u.changes_total);
  body.emplace_back("changes_more", u.changes_more);
  if (u.incomplete) body.emplace_back("incomplete", true);
  return body;
}

Bytes encode_update(const TreeUpdate& update) { return pack(to_value(update)); }

Decoded<TreeUpdate> decode_update(ByteView body) {
  const auto value = unpack(body);
  if (!value) return refuse(value.error());
  return update_of(*value);
}

Decoded<TreeUpdate> update_of(const Value& body) {
  if (!body.as_map()) return refuse(Reject::WrongType);
  TreeUpdate u;
  Fields f{body, {}};
  const Value* tree = body.find("tree");
  if (!tree) return refuse(Reject::MissingKey);
  if (!tree->as_binary() || tree->as_binary()->size() != TreeId::kSize)
    return refuse(Reject::WrongType);
  u.record.tree = TreeId::from_bytes(*tree->as_binary());
  u.record.number = f.get<std::uint64_t>("number");
  u.record.parent = f.get<Hash>("parent");
  u.record.tree_hash = f.get<Hash>("tree_hash");
  u.record.time_ns = f.get<std::uint64_t>("time");
  const auto counts = counts_of(body.find("counts"));
  if (!counts) return refuse(counts.error());
  u.record.counts = *counts;
  if (const Value* extensions = body.find("extensions")) {
    if (!extensions->as_binary()) return refuse(Reject::WrongType);
    u.record.extensions = *extensions->as_binary();
    if (u.record.extensions.size() > kMaxVersionExtensions) return refuse(Reject::TooLarge);
  }
  u.changes_total = f.get<std::uint64_t>("changes_total");
  u.changes_more = f.flag("changes_more");
  u.incomplete = f.flag("incomplete");
  if (f.failure) return refuse(*f.failure);
  // The record is what number, hash and parent chain are about: it must be one.
  if (const auto record = decode_version(encode_version(u.record)); !record)
    return refuse(record.error());

  if (const Value* pack = body.find("pack")) {
    auto ref = pack_of(*pack);
    if (!ref) return refuse(ref.error());
    u.pack = *ref;
    if (const Value* bytes = pack->find("inline")) {
      if (!bytes->as_binary()) return refuse(Reject::WrongType);
      if (bytes->as_binary()->size() > kMaxInlinePack) return refuse(Reject::TooLarge);
      if (bytes->as_binary()->size() != u.pack->size) return refuse(Reject::SizeLie);
      if (sha256(*bytes->as_binary()) != u.pack->sha256) return refuse(Reject::BadHash);
      u.inline_pack = *bytes->as_binary();
    }
  }
  const Value* changes = body.find("changes");
  if (!changes) return refuse(Reject::MissingKey);
  if (!changes->as_array()) return refuse(Reject::WrongType);
  if (changes->as_array()->size() > kMaxUpdateChanges) return refuse(Reject::BadCount);
  for (const Value& item : *changes->as_array()) {
    auto change = decode_change(item);
    if (!change) return refuse(change.error());
    u.changes.push_back(std::move(*change));
  }
  if (u.changes_total < u.changes.size()) return refuse(Reject::BadCount);
  return u;
}

}  // namespace mirrorbus::proto
