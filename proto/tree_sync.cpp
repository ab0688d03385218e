#include "proto/tree_sync.hpp"

#include "proto/limits.hpp"
#include "proto/tree_update.hpp"

#include <array>
#include <cmath>

namespace mirrorbus::proto {
namespace {

// Long texts are cut where a character begins.
std::string text(std::string_view from) {
  std::string out(from.substr(0, kMaxSyncText));
  while (!out.empty() && !valid_utf8(out)) out.pop_back();
  return out;
}

Value fidelity_value(const Fidelity& f) {
  Map map{{"full", f.full},
          {"owner", f.owner},
          {"xattrs", f.xattrs},
          {"devices", f.devices},
          {"owners_left_out", f.owners_left_out},
          {"xattrs_left_out", f.xattrs_left_out},
          {"devices_left_out", f.devices_left_out}};
  if (f.limits_left_out > 0) map.emplace_back("limits_left_out", f.limits_left_out);
  if (f.filtered_left_out > 0) map.emplace_back("filtered_left_out", f.filtered_left_out);
  if (f.filter) map.emplace_back("filter", *f.filter);
  return map;
}

// Reads required fields and remembers the first fault.
struct Fields {
  const Value& map;
  std::optional<Reject> failure;

  void fail(Reject reject) {
    if (!failure) failure = reject;
  }
  template <class T>
  T get(std::string_view key) {
    auto value = field<T>(map, key);
    if (!value) fail(value.error());
    return value ? std::move(*value) : T{};
  }
  std::string text(std::string_view key) {
    std::string value = get<std::string>(key);
    if (value.size() > kMaxSyncText) fail(Reject::TooLarge);
    return value;
  }
  bool flag(std::string_view key) {
    const Value* value = map.find(key);
    if (!value) return fail(Reject::MissingKey), false;
    if (!value->as_bool()) return fail(Reject::WrongType), false;
    return *value->as_bool();
  }
  double seconds() {
    const Value* value = map.find("seconds");
    if (!value) return fail(Reject::MissingKey), 0;
    const auto number = value->as_number();
    if (!number) return fail(Reject::WrongType), 0;
    if (!(*number >= 0) || std::isinf(*number)) return fail(Reject::BadField), 0;
    return *number;
  }
  TreeId tree() {
    const Value* value = map.find("tree");
    if (!value) return fail(Reject::MissingKey), TreeId{};
    const Bytes* bytes = value->as_binary();
    if (!bytes || bytes->size() != TreeId::kSize) return fail(Reject::WrongType), TreeId{};
    return TreeId::from_bytes(*bytes);
  }
};

template <std::size_t N>
void one_of(Fields& f, const std::string& value, const std::array<std::string_view, N>& known) {
  for (const auto k : known)
    if (value == k) return;
  f.fail(Reject::BadField);
}

Fidelity fidelity_of(Fields& outer) {
  Fidelity fidelity;
  const Value* map = outer.map.find("fidelity");
  if (!map) return outer.fail(Reject::MissingKey), fidelity;
  if (!map->as_map()) return outer.fail(Reject::WrongType), fidelity;
  Fields f{*map, {}};
  fidelity.full = f.flag("full");
  fidelity.owner = f.text("owner");
  fidelity.xattrs = f.text("xattrs");
  fidelity.devices = f.flag("devices");
  fidelity.owners_left_out = f.get<std::uint64_t>("owners_left_out");
  fidelity.xattrs_left_out = f.get<std::uint64_t>("xattrs_left_out");
  fidelity.devices_left_out = f.get<std::uint64_t>("devices_left_out");
  if (map->find("limits_left_out"))
    fidelity.limits_left_out = f.get<std::uint64_t>("limits_left_out");
  if (map->find("filtered_left_out"))
    fidelity.filtered_left_out = f.get<std::uint64_t>("filtered_left_out");
  if (map->find("filter")) fidelity.filter = f.get<Hash>("filter");
  one_of<3>(f, fidelity.owner, {"numeric", "name", "none"});
  one_of<3>(f, fidelity.xattrs, {"all", "user", "none"});
  if (f.failure) outer.fail(*f.failure);
  return fidelity;
}

void get_missing(Fields& f, SyncComplete& c) {
  const Value* list = f.map.find("missing");
  if (!list) return;
  if (!list->as_array()) return f.fail(Reject::WrongType);
  if (list->as_array()->size() > kMaxMissingItems) return f.fail(Reject::BadCount);
  for (const Value& item : *list->as_array()) {
    const Array* pair = item.as_array();
    if (!pair) return f.fail(Reject::WrongType);
    if (pair->size() != 2) return f.fail(Reject::BadCount);
    auto path = path_of_value((*pair)[0]);
    if (!path) return f.fail(path.error());
    const std::string* reason = (*pair)[1].as_text();
    if (!reason) return f.fail(Reject::WrongType);
    if (reason->size() > kMaxSyncText) return f.fail(Reject::TooLarge);
    c.missing.push_back({std::move(*path), *reason});
  }
  c.missing_total = f.get<std::uint64_t>("missing_total");
  if (c.missing_total < c.missing.size()) f.fail(Reject::BadCount);
}

template <class T>
Decoded<T> done(const Fields& f, T value) {
  if (f.failure) return refuse(*f.failure);
  return value;
}

}  // namespace

void add_missing(SyncComplete& complete, MissingItem item) {
  ++complete.missing_total;
  if (complete.missing_total != complete.missing.size() + 1) return;
  item.reason = text(item.reason);
  constexpr std::size_t kOverhead = 8;
  std::size_t size = item.path.size() + item.reason.size() + kOverhead;
  for (const auto& m : complete.missing) size += m.path.size() + m.reason.size() + kOverhead;
  if (complete.missing.size() < kMaxMissingItems && size <= kMaxMissingSize)
    complete.missing.push_back(std::move(item));
}

Bytes encode_sync(const SyncStart& s) {
  return pack(Map{{"tree", Binary{Bytes(s.tree.view())}},
                  {"from", s.from},
                  {"to", s.to},
                  {"source", text(s.source)}});
}

Bytes encode_sync(const SyncComplete& c) {
  Map body{{"tree", Binary{Bytes(c.tree.view())}},
           {"from", c.from},
           {"to", c.to},
           {"tree_hash", c.tree_hash},
           {"bytes", c.bytes},
           {"seconds", c.seconds},
           {"source", text(c.source)},
           {"fidelity", fidelity_value(c.fidelity)}};
  if (c.missing_total > 0) {
    Array missing;
    for (const auto& m : c.missing) missing.push_back(Array{path_value(m.path), text(m.reason)});
    body.emplace_back("missing", std::move(missing));
    body.emplace_back("missing_total", c.missing_total);
  }
  return pack(body);
}

Bytes encode_sync(const SyncFail& s) {
  return pack(Map{{"tree", Binary{Bytes(s.tree.view())}},
                  {"from", s.from},
                  {"to", s.to},
                  {"bytes", s.bytes},
                  {"seconds", s.seconds},
                  {"source", text(s.source)},
                  {"error", text(s.error)}});
}

Decoded<SyncStart> decode_sync_start(const Value& body) {
  if (!body.as_map()) return refuse(Reject::WrongType);
  Fields f{body, {}};
  SyncStart s;
  s.tree = f.tree();
  s.from = f.get<std::uint64_t>("from");
  s.to = f.get<std::uint64_t>("to");
  s.source = f.text("source");
  return done(f, std::move(s));
}

Decoded<SyncComplete> decode_sync_complete(const Value& body) {
  if (!body.as_map()) return refuse(Reject::WrongType);
  Fields f{body, {}};
  SyncComplete c;
  c.tree = f.tree();
  c.from = f.get<std::uint64_t>("from");
  c.to = f.get<std::uint64_t>("to");
  c.tree_hash = f.get<Hash>("tree_hash");
  c.bytes = f.get<std::uint64_t>("bytes");
  c.seconds = f.seconds();
  c.source = f.text("source");
  c.fidelity = fidelity_of(f);
  get_missing(f, c);
  return done(f, std::move(c));
}

Decoded<SyncFail> decode_sync_fail(const Value& body) {
  if (!body.as_map()) return refuse(Reject::WrongType);
  Fields f{body, {}};
  SyncFail s;
  s.tree = f.tree();
  s.from = f.get<std::uint64_t>("from");
  s.to = f.get<std::uint64_t>("to");
  s.bytes = f.get<std::uint64_t>("bytes");
  s.seconds = f.seconds();
  s.source = f.text("source");
  s.error = f.text("error");
  return done(f, std::move(s));
}

}  // namespace mirrorbus::proto
