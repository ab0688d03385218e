#include "bus/net/discovery_memory.hpp"

#include "bus/base/replace_file.hpp"
#include "proto/value.hpp"

#include <fstream>
#include <iterator>

namespace mirrorbus::net {
namespace {

using Held = DiscoveryCore::Held;
using Kind = DiscoveryCore::Query::Kind;

constexpr std::size_t kMaxFileSize = 4 << 20;

constexpr std::pair<std::string_view, Kind> kKinds[] = {
    {"publishers", Kind::Publishers}, {"sources", Kind::Sources}, {"host", Kind::Host}};

proto::Value to_value(const SrvRecord& record) {
  return proto::Map{{"priority", std::uint64_t{record.priority}},
                    {"weight", std::uint64_t{record.weight}},
                    {"port", std::uint64_t{record.port}},
                    {"target", record.target},
                    {"addresses", proto::Array(record.addresses.begin(), record.addresses.end())}};
}

std::string text(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  const std::string* found = value ? value->as_text() : nullptr;
  return found ? *found : std::string();
}

std::vector<std::string> texts(const proto::Value& map, std::string_view key) {
  std::vector<std::string> out;
  const proto::Value* value = map.find(key);
  if (const proto::Array* list = value ? value->as_array() : nullptr)
    for (const proto::Value& each : *list)
      if (const std::string* found = each.as_text()) out.push_back(*found);
  return out;
}

std::uint16_t number(const proto::Value& map, std::string_view key) {
  const proto::Value* value = map.find(key);
  const std::uint64_t found = value ? value->as_u64().value_or(0) : 0;
  return found <= UINT16_MAX ? static_cast<std::uint16_t>(found) : 0;
}

Held to_held(const proto::Value& map) {
  Held held;
  const std::string kind = text(map, "kind");
  for (const auto& [name, value] : kKinds)
    if (kind == name) held.query.kind = value;
  held.query.name = text(map, "name");
  held.addresses = texts(map, "addresses");
  const proto::Value* records = map.find("records");
  if (const proto::Array* list = records ? records->as_array() : nullptr)
    for (const proto::Value& each : *list)
      held.records.push_back({number(each, "priority"), number(each, "weight"),
                              number(each, "port"), text(each, "target"),
                              texts(each, "addresses"), true});
  return held;
}

}  // namespace

std::vector<Held> read_discovery_memory(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string json(std::istreambuf_iterator<char>(in), {});
  if (json.empty() || json.size() > kMaxFileSize) return {};
  const auto value = proto::from_json(json);
  const proto::Array* list = value ? value->as_array() : nullptr;
  std::vector<Held> held;
  if (list)
    for (const proto::Value& each : *list) held.push_back(to_held(each));
  return held;
}

void write_discovery_memory(const std::string& file, const std::vector<Held>& held) {
  proto::Array list;
  for (const Held& each : held) {
    proto::Array records;
    for (const SrvRecord& record : each.records) records.push_back(to_value(record));
    std::string_view kind;
    for (const auto& [name, value] : kKinds)
      if (value == each.query.kind) kind = name;
    list.emplace_back(proto::Map{
        {"kind", std::string(kind)},
        {"name", each.query.name},
        {"records", std::move(records)},
        {"addresses", proto::Array(each.addresses.begin(), each.addresses.end())}});
  }
  base::replace_file(file, proto::to_json(proto::Value(std::move(list))) + '\n');
}

}  // namespace mirrorbus::net
