#include "services/tree/garbage.hpp"

#include "services/tree/index_db.hpp"

namespace mirrorbus::tree {

void Garbage::each_retained_node(const std::function<void(ByteView node)>& visit) const {
  for (const char* text : {"SELECT node FROM directories",
                           "SELECT node FROM pending WHERE node IS NOT NULL",
                           "SELECT bytes FROM blobs"}) {
    auto& s = db_.sql(text);
    while (s.step()) visit(s.blob(0));
    s.reset();
  }
}

std::uint64_t Garbage::since(const Hash& content, std::uint64_t now_ns) {
  auto& s = db_.sql(
      "INSERT INTO garbage VALUES (?1, ?2, ?2) ON CONFLICT (content)"
      " DO UPDATE SET looked = excluded.looked RETURNING since");
  s.bind_blob(1, content.view()).bind(2, now_ns);
  return all_rows(s, number_of).front();
}

void Garbage::forget(const Hash& content) {
  db_.sql("DELETE FROM garbage WHERE content = ?").bind_blob(1, content.view()).run();
}

void Garbage::forget_before(std::uint64_t now_ns) {
  db_.sql("DELETE FROM garbage WHERE looked < ?").bind(1, now_ns).run();
}

}  // namespace mirrorbus::tree
