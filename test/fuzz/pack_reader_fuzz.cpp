// A delta pack over a small tree, from an origin that may do what it likes: the input is the pack's
// parts, decompressed. They are compressed here, and what hashes would catch is put right, so that
// what lies behind each check has its turn:
//
//   flags, index (u16 size, bytes), node frames (u8 count, each u16 size, bytes), groups (the same),
//   pieces (each u16 size, bytes)
//
// Whatever the reader hands on must be a tree: names and paths that lead nowhere else, nodes that
// decode, contents with their hashes.
#include "services/tree/pack_reader.hpp"
#include "proto/sha256.hpp"
#include "test/fuzz/fuzz.hpp"

#include <map>

using namespace mirrorbus;
using proto::Bytes;
using proto::ByteView;
using proto::Hash;

namespace {

proto::Entry entry(const char* name, proto::EntryType type, const Hash& content,
                   std::uint64_t size = 0) {
  proto::Entry e;
  e.name = name;
  e.type = type;
  e.mode = 0755;
  e.size = size;
  e.content = content;
  return e;
}

// /file, /dir/inner, /dir/deep/leaf
struct BaseTree {
  std::map<Hash, Bytes> blobs;
  proto::TreeRoot root;

  Hash put(const Bytes& bytes) {
    const Hash hash = proto::sha256(bytes);
    blobs[hash] = bytes;
    return hash;
  }
  BaseTree() {
    using enum proto::EntryType;
    const Hash leaf = put("leaf"), inner = put("inner content"), file = put("content of the file");
    const Hash deep = put(proto::encode_node({{entry("leaf", File, leaf, 4)}}));
    const Hash dir = put(
        proto::encode_node({{entry("deep", Directory, deep), entry("inner", File, inner, 13)}}));
    root.entry = entry(
        "", Directory,
        put(proto::encode_node({{entry("dir", Directory, dir), entry("file", File, file, 19)}})));
    root.links = put(proto::encode_links({}));
    root.owners = put(proto::encode_owners({}));
  }
  tree::TreeView view() const {
    return {[this](const Hash& id) -> std::optional<Bytes> {
              const auto it = blobs.find(id);
              return it == blobs.end() ? std::nullopt : std::optional(it->second);
            },
            root, blobs.at(root.links), blobs.at(root.owners)};
  }
};

std::vector<Bytes> list(fuzz::Choices& in) {
  std::vector<Bytes> items(in.byte() % 8);
  for (Bytes& item : items) item = in.long_bytes();
  return items;
}

struct Pack {
  proto::PackIndex index;
  Bytes frames;

  Bytes bytes() const {
    const Bytes raw = proto::encode_pack_index(index);
    const Bytes stored = tree::PatchEncoder().encode(raw, {}, 1);
    return proto::encode_pack_header({stored.size(), raw.size()}) + stored + frames;
  }
};

// Sizes are made to fit what there is.
std::optional<Pack> assemble(fuzz::Choices& in, const BaseTree& base) {
  const std::uint8_t flags = in.byte();
  auto index = proto::decode_pack_index(in.long_bytes());
  if (!index) return std::nullopt;
  Pack pack{std::move(*index), {}};
  if (flags & 1) pack.index.base = proto::tree_hash(base.root);
  if (flags & 2) {
    pack.index.links_size = pack.index.owners_size = pack.index.tables_stored = 0;
    pack.index.root.links = base.root.links;
    pack.index.root.owners = base.root.owners;
  }
  tree::PatchEncoder encoder;
  const auto nodes = list(in), groups = list(in);
  for (std::size_t i = 0; i < pack.index.node_frames.size(); ++i) {
    const Bytes raw = i < nodes.size() ? nodes[i] : Bytes("x");
    const Bytes stored = encoder.encode(raw, {}, 1);
    pack.index.node_frames[i].stored = stored.size();
    pack.index.node_frames[i].raw = raw.size();
    pack.frames += stored;
  }
  for (std::size_t i = 0; i < pack.index.groups.size(); ++i) {
    const Bytes stored = encoder.encode(i < groups.size() ? groups[i] : Bytes(), {}, 1);
    pack.index.groups[i].stored = stored.size();
    pack.frames += stored;
  }
  for (proto::PackLarge& large : pack.index.large)
    for (proto::PackPiece& piece : large.pieces) {
      const Bytes raw(in.long_bytes());
      const Bytes stored = encoder.encode(raw, {}, 1);
      piece.stored = stored.size();
      if (flags & 4) piece.size = raw.size();
      pack.frames += stored;
    }
  return pack;
}

bool plain(ByteView path) { return path.empty() || proto::valid_tree_path(path); }

void read(const Pack& pack, const BaseTree& base, Hash& root_id) {
  auto reader = tree::PackReader::open(tree::PackBytes(pack.bytes()), nullptr);
  if (!reader) return;
  const auto sink = [&](const Bytes& path, const Hash& id, const Bytes& node) {
    fuzz::require(plain(path), "a path stays within the tree");
    fuzz::require(proto::node_id(node) == id, "a node has its id");
    fuzz::require(proto::decode_node(node).has_value(), "a node decodes");
    if (path.empty()) root_id = id;
  };
  const tree::TreeView view = base.view();
  const auto tables = reader->read_nodes(view, proto::tree_hash(pack.index.root), sink);
  if (!tables) return;
  for (const tree::PackTarget& target : reader->targets().all()) {
    fuzz::require(proto::valid_tree_path(target.file.path), "a target is a path within the tree");
    (void)reader->offers(target.file.hash);
  }
  const auto from_base = [&](const tree::FileRef& file) -> std::optional<Bytes> {
    fuzz::require(proto::valid_tree_path(file.path), "what is read is a path within the tree");
    const auto it = base.blobs.find(file.hash);
    return it == base.blobs.end() ? std::nullopt : std::optional(it->second);
  };
  for (std::size_t i = 0; i < reader->groups().size(); ++i)
    (void)reader->read_group(i, from_base, [](const tree::PackTarget& target, ByteView content) {
      fuzz::require(proto::sha256(content) == target.file.hash, "a content has its hash");
    });
  tree::PatchDecoder decoder;
  for (std::size_t i = 0; i < reader->large().size(); ++i) {
    const tree::FileRef& file = *reader->large()[i].base;
    const auto whole = from_base(file);
    if (!whole) continue;
    const auto& pieces = reader->pieces(i);
    for (std::size_t j = 0; j < pieces.size(); ++j) {
      fuzz::require(pieces[j].base_offset + pieces[j].base_size <= file.size,
                    "a range lies within its base");
      const auto made = reader->read_piece(
          i, j, decoder, whole->substr(pieces[j].base_offset, pieces[j].base_size));
      fuzz::require(!made || made->size() == pieces[j].size, "a piece has its size");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const BaseTree* const base = new BaseTree;
  fuzz::Choices in(fuzz::view(data, size));
  auto pack = assemble(in, *base);
  if (!pack) return 0;
  Hash root_id = pack->index.root.entry.content;
  read(*pack, *base, root_id);
  // The same once more with the root it says it has, as its signed version would.
  if (root_id == pack->index.root.entry.content) return 0;
  pack->index.root.entry.content = root_id;
  read(*pack, *base, root_id);
  return 0;
}
