#include "services/mirror/tree_diffs.hpp"

#include "services/tree/dry_run.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::mirror {
namespace {

// So that an answer stays small, and what comes between two of them waits little.
constexpr std::size_t kPageItems = 5000;
constexpr std::size_t kPageBytes = 1024 * 1024;

std::string_view name_of(proto::EntryType type) {
  switch (type) {
    case proto::EntryType::File: return "file";
    case proto::EntryType::Directory: return "directory";
    case proto::EntryType::Symlink: return "symlink";
    case proto::EntryType::CharDevice: return "character device";
    case proto::EntryType::BlockDevice: return "block device";
    case proto::EntryType::Fifo: return "fifo";
    case proto::EntryType::Socket: return "socket";
  }
  return "unknown";
}

}  // namespace

std::optional<proto::Bytes> page_start(const proto::Value& request) {
  const proto::Value* after = request.find("after");
  if (!after) return std::nullopt;
  proto::Bytes path;
  if (!after->as_text() || !proto::from_hex(*after->as_text(), path))
    throw std::runtime_error("\"after\" must be hexadecimal");
  return path;
}

proto::Map diff_page(const tree::Itemizer& itemizer, const std::optional<proto::Bytes>& after) {
  proto::Array items;
  std::size_t bytes = 0;
  std::optional<proto::Bytes> next;
  itemizer.each(after, [&](const tree::Itemized& item) {
    const bool linked = !item.linked_to.empty();
    proto::Array one{item.letters, item.path.empty() ? "." : tree::printable(item.path),
                     name_of(item.type)};
    if (linked || !item.target.empty())
      one.emplace_back(tree::printable(linked ? item.linked_to : item.target));
    items.emplace_back(std::move(one));
    bytes += item.path.size() + item.target.size() + item.linked_to.size() + 64;
    if (items.size() < kPageItems && bytes < kPageBytes) return true;
    next = item.path;
    return false;
  });
  proto::Map page{{"items", std::move(items)}};
  if (next) page.emplace_back("after", proto::to_hex(*next));
  return page;
}

bool page_follows(const proto::Map& page) {
  return std::ranges::any_of(page, [](const auto& field) { return field.first == "after"; });
}

proto::Value TreeDiffs::page(std::uint64_t from, std::uint64_t to,
                             const std::optional<proto::Bytes>& after) {
  if (!itemizer_ || from_ != from || to_ != to) {
    std::optional<tree::ItemizedTree> was;
    if (from > 0) was = tree::itemized_version(index_, from);
    itemizer_ = std::make_unique<tree::Itemizer>(std::move(was),
                                                 tree::itemized_version(index_, to));
    from_ = from;
    to_ = to;
  }
  proto::Map page = diff_page(*itemizer_, after);
  if (!page_follows(page)) itemizer_.reset();
  page.emplace_back("from", from);
  page.emplace_back("to", to);
  return page;
}

}  // namespace mirrorbus::mirror
