#include "services/tree/content_places.hpp"

#include "services/tree/file_reader.hpp"
#include "services/tree/snapshots.hpp"

#include <algorithm>
#include <cstring>

namespace mirrorbus::tree {

using proto::Entry;
using proto::EntryType;

namespace {

std::uint64_t short_hash(const Hash& hash) {
  std::uint64_t value;
  std::memcpy(&value, hash.octets.data(), sizeof value);
  return value;
}

// Of what tells whether a file is as it was. Links of our other versions move the ctime.
std::uint32_t look_of(const EntryStat& stat, bool shared) {
  std::uint64_t sum = shared ? 1 : 2;
  for (const std::uint64_t each :
       {stat.ino, stat.size, static_cast<std::uint64_t>(stat.mtime_s),
        std::uint64_t{stat.mtime_ns}, shared ? 0 : static_cast<std::uint64_t>(stat.ctime_s),
        shared ? 0 : std::uint64_t{stat.ctime_ns}}) {
    sum = (sum ^ each) * 0x9e3779b97f4a7c15;  // the golden ratio's: as in Fibonacci hashing
    sum ^= sum >> 32;
  }
  return std::max(1u, static_cast<std::uint32_t>(sum));
}

}  // namespace

bool ContentPlaces::recorded(const Hash& hash, const EntryStat& stat) {
  return listed(hash, stat) || (refresh() && listed(hash, stat));
}

bool ContentPlaces::listed(const Hash& hash, const EntryStat& stat) const {
  const std::uint32_t look = look_of(stat, false), shared = look_of(stat, true);
  auto place = std::ranges::lower_bound(places_, Place{short_hash(hash), 0, 0});
  for (; place != places_.end() && place->content == short_hash(hash); ++place)
    if (place->look == look || place->look == shared) return true;
  return false;
}

std::optional<ServedFile> ContentPlaces::open(const Hash& hash, const Good& good) {
  // What is open may have been moved away, and what is listed be of an earlier version.
  if (auto found = find(hash, good)) return found;
  if (!refresh()) forget_directories();
  return find(hash, good);
}

std::optional<ServedFile> ContentPlaces::find(const Hash& hash, const Good& good) {
  auto place = std::ranges::lower_bound(places_, Place{short_hash(hash), 0, 0});
  for (; place != places_.end() && place->content == short_hash(hash); ++place) {
    const Directory* in = directory(place->directory);
    if (!in || place->at >= std::min(in->node.entries.size(), in->stats.size())) continue;
    const Entry& entry = in->node.entries[place->at];
    if (entry.content != hash) continue;
    auto open = open_file(in->dir.get(), entry.name);
    if (!open) continue;
    ServedFile file{std::move(open->fd), open->st};
    if (in->stats[place->at].same(EntryStat::of(file.st)) || good(file)) return file;
  }
  return std::nullopt;
}

const ContentPlaces::Directory* ContentPlaces::directory(std::uint32_t number) try {
  if (last_ && last_->number == number) return &*last_;
  last_.reset();
  auto row = index_.directory(directories_[number]);
  auto node = row ? proto::decode_node(row->node) : proto::Node();
  if (!row || !node) return nullptr;
  if (!root_) root_.emplace(Snapshots::newest_path(index_, work_).value_or(tree_path_));
  last_.emplace(Directory{number, std::move(*node), std::move(row->stats), root_->open(row->path)});
  return &*last_;
} catch (const std::system_error&) {
  return nullptr;  // it is not there any more: neither are its contents
}

void ContentPlaces::forget_directories() {
  last_.reset();
  root_.reset();
}

// One pass over the index: 24 bytes a file.
bool ContentPlaces::refresh() {
  const auto newest = index_.newest();
  if (!newest || newest->record.number == version_) return false;
  forget_directories();
  places_.clear();
  directories_.clear();
  constexpr std::uint32_t kNoProof = EntryStat::kUncertain | EntryStat::kUnreadable;
  index_.each_directory("", [this](const DirectoryRow& row) {
    proto::NodeReader reader(row.node);
    Entry entry;
    const auto directory = static_cast<std::uint32_t>(directories_.size());
    bool any = false;
    for (std::uint32_t at = 0; reader.next(entry); ++at) {
      if (entry.type != EntryType::File) continue;
      const EntryStat& stat = row.stats.at(at);
      const bool proves = stat.ino != 0 && (stat.flags & kNoProof) == 0;
      const bool shared = stat.flags & EntryStat::kShared;
      places_.push_back({short_hash(entry.content), directory, at,
                         proves ? look_of(stat, shared) : 0});
      any = true;
    }
    if (any) directories_.push_back(row.path);
    return true;
  });
  std::ranges::sort(places_);
  version_ = newest->record.number;
  return true;
}

}  // namespace mirrorbus::tree
