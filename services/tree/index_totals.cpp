#include "services/tree/index_totals.hpp"

#include "services/tree/index_db.hpp"

#include <stdexcept>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;
using proto::TreeCounts;

void Tally::add(ByteView node, int sign) {
  proto::NodeReader reader(node);
  Entry entry;
  while (reader.next(entry)) add(entry, sign);
  if (reader.failure()) throw std::runtime_error("the index holds a damaged node");
}

void Tally::add(const Entry& entry, int sign) {
  entries_ += sign;
  if (entry.type == EntryType::File) {
    files_ += sign;
    bytes_ += sign * static_cast<std::int64_t>(entry.size);
  } else if (entry.type == EntryType::Directory) {
    directories_ += sign;
  } else if (entry.type == EntryType::Symlink) {
    symlinks_ += sign;
  }
  own(entry, sign);
}

void Tally::own(const Entry& entry, int sign) {
  owners_[{0, entry.uid}] += sign;
  owners_[{1, entry.gid}] += sign;
}

TreeCounts Tally::added_to(const TreeCounts& counts) const {
  const auto sum = [](std::uint64_t a, std::int64_t b) {
    return a + static_cast<std::uint64_t>(b);
  };
  return {sum(counts.entries, entries_), sum(counts.files, files_),
          sum(counts.directories, directories_), sum(counts.symlinks, symlinks_),
          sum(counts.bytes, bytes_)};
}

TreeCounts IndexTotals::counts() const {
  TreeCounts c;
  if (const auto bytes = db_.setting("counts")) {
    proto::Reader r(*bytes);
    for (std::uint64_t* n : {&c.entries, &c.files, &c.directories, &c.symlinks, &c.bytes})
      *n = r.u64();
  }
  return c;
}

void IndexTotals::apply(const Tally& tally) {
  const TreeCounts c = tally.added_to(counts());
  Bytes bytes;
  proto::Writer(bytes).u64(c.entries).u64(c.files).u64(c.directories).u64(c.symlinks).u64(c.bytes);
  db_.set("counts", bytes);
  for (const auto& [owner, uses] : tally.owners_) {
    if (uses == 0) continue;
    db_.sql("INSERT INTO owners VALUES (?, ?, ?)"
            " ON CONFLICT (kind, id) DO UPDATE SET uses = uses + excluded.uses")
        .bind(1, owner.first)
        .bind(2, std::uint64_t{owner.second})
        .bind(3, uses)
        .run();
  }
  db_.sql("DELETE FROM owners WHERE uses <= 0").run();
}

Index::Totals IndexTotals::with(const Tally& tally) const {
  Index::Totals totals{tally.added_to(counts()), {}, {}};
  Tally::Owners uses = tally.owners_;
  auto& s = db_.sql("SELECT kind, id, uses FROM owners");
  while (s.step())
    uses[{static_cast<int>(s.integer(0)), static_cast<std::uint32_t>(s.u64(1))}] += s.integer(2);
  s.reset();
  for (const auto& [owner, count] : uses)
    if (count > 0) (owner.first == 0 ? totals.users : totals.groups).push_back(owner.second);
  return totals;
}

}  // namespace mirrorbus::tree
