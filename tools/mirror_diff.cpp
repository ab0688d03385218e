#include "tools/mirror_diff.hpp"

#include <stdexcept>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

std::string_view text(const proto::Array& item, std::size_t at) {
  return at < item.size() && item[at].as_text() ? *item[at].as_text() : std::string_view();
}

void print(const proto::Array& item, bool json) {
  const std::string_view letters = text(item, 0), path = text(item, 1), type = text(item, 2),
                         other = text(item, 3);
  const bool symlink = type == "symlink" && !letters.starts_with('h');
  if (json) {
    proto::Map object{{"change", letters}, {"path", path}, {"type", type}};
    if (!other.empty()) object.emplace_back(symlink ? "target" : "linked_to", other);
    fmt::print("{}\n", proto::to_json(object));
    return;
  }
  fmt::print("{} {}{}{}{}\n", letters, path, type == "directory" ? "/" : "",
             other.empty() ? "" : symlink ? " -> " : " => ", other);
}

}  // namespace

int print_diff(peer::ControlClient& client, const proto::Map& request, base::Duration timeout,
               bool json) {
  proto::Map question = request;
  for (;;) {
    const auto page = client.call(proto::Value(question), timeout);
    if (!page) throw std::runtime_error(page.error());
    if (const proto::Value* items = page->find("items"); items && items->as_array())
      for (const proto::Value& item : *items->as_array())
        if (item.as_array()) print(*item.as_array(), json);
    const proto::Value* after = page->find("after");
    if (after && after->as_text()) {
      question = request;
      question.emplace_back("after", *after->as_text());
      continue;
    }
    const proto::Value* refused = page->find("refused");
    if (!refused || !refused->as_text()) return 0;
    fmt::print(stderr, "bus-mirror: it would be refused: {}\n", *refused->as_text());
    return 1;
  }
}

}  // namespace mirrorbus::tools
