#include "proto/value.hpp"

#include "proto/limits.hpp"

#include <algorithm>
#include <cmath>

#include <msgpack.hpp>
#include <nlohmann/json.hpp>

namespace mirrorbus::proto {

const Value* Value::find(std::string_view key) const {
  const Map* map = as_map();
  if (!map) return nullptr;
  const auto it = std::ranges::find(*map, key, &Map::value_type::first);
  return it == map->end() ? nullptr : &it->second;
}

std::optional<bool> Value::as_bool() const {
  const bool* v = std::get_if<bool>(&data);
  return v ? std::optional(*v) : std::nullopt;
}

std::optional<std::uint64_t> Value::as_u64() const {
  const auto* v = std::get_if<std::uint64_t>(&data);
  return v ? std::optional(*v) : std::nullopt;
}

std::optional<std::int64_t> Value::as_i64() const {
  if (const auto* v = std::get_if<std::int64_t>(&data)) return *v;
  if (const auto* v = std::get_if<std::uint64_t>(&data); v && *v <= INT64_MAX)
    return static_cast<std::int64_t>(*v);
  return std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const auto* v = std::get_if<double>(&data)) return *v;
  if (const auto* v = std::get_if<std::uint64_t>(&data)) return static_cast<double>(*v);
  if (const auto* v = std::get_if<std::int64_t>(&data)) return static_cast<double>(*v);
  return std::nullopt;
}

const Bytes* Value::as_binary() const {
  const Binary* v = std::get_if<Binary>(&data);
  return v ? &v->bytes : nullptr;
}

std::optional<Hash> Value::as_hash() const {
  const Bytes* v = as_binary();
  if (!v || v->size() != Hash::kSize) return std::nullopt;
  return Hash::from_bytes(*v);
}

bool valid_utf8(ByteView text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  while (p < end) {
    const unsigned char lead = *p++;
    if (lead < 0x80) continue;
    int more;
    unsigned low = 0x80, high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      more = 1;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return false;
    }
    for (; more > 0; --more) {
      if (p == end || *p < low || *p > high) return false;
      ++p;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}

namespace {

// Lets msgpack-c append straight to a byte string.
struct Sink {
  Bytes& out;
  void write(const char* bytes, std::size_t size) { out.append(bytes, size); }
};

void pack_value(msgpack::packer<Sink>& packer, const Value& value) {
  struct Visit {
    msgpack::packer<Sink>& packer;
    void operator()(std::monostate) const { packer.pack_nil(); }
    void operator()(bool v) const { packer.pack(v); }
    void operator()(std::int64_t v) const { packer.pack_int64(v); }
    void operator()(std::uint64_t v) const { packer.pack_uint64(v); }
    void operator()(double v) const { packer.pack_double(v); }
    void operator()(const std::string& v) const {
      packer.pack_str(static_cast<std::uint32_t>(v.size()));
      packer.pack_str_body(v.data(), static_cast<std::uint32_t>(v.size()));
    }
    void operator()(const Binary& v) const {
      packer.pack_bin(static_cast<std::uint32_t>(v.bytes.size()));
      packer.pack_bin_body(v.bytes.data(), static_cast<std::uint32_t>(v.bytes.size()));
    }
    void operator()(const Array& v) const {
      packer.pack_array(static_cast<std::uint32_t>(v.size()));
      for (const Value& item : v) pack_value(packer, item);
    }
    void operator()(const Map& v) const {
      packer.pack_map(static_cast<std::uint32_t>(v.size()));
      for (const auto& [key, item] : v) {
        (*this)(key);
        pack_value(packer, item);
      }
    }
  };
  std::visit(Visit{packer}, value.data);
}

// Builds a Value without trusting a single length: msgpack-c calls start_array(n) before the items
// exist, so nothing is reserved from n, and the number of items is bounded by the bytes at hand.
class Builder : public msgpack::null_visitor {
 public:
  explicit Builder(std::size_t bytes) : budget_(bytes) {}

  std::optional<Reject> why;
  Value root;

  bool visit_nil() { return put(Value{}); }
  bool visit_boolean(bool v) { return put(v); }
  bool visit_positive_integer(std::uint64_t v) { return put(static_cast<unsigned long>(v)); }
  bool visit_negative_integer(std::int64_t v) { return put(static_cast<long>(v)); }
  bool visit_float32(float v) { return put(static_cast<double>(v)); }
  bool visit_float64(double v) { return put(v); }
  bool visit_str(const char* v, std::uint32_t size) {
    const ByteView text(v, size);
    if (!valid_utf8(text)) return fail(Reject::BadUtf8);
    if (!stack_.empty() && stack_.back().want_key) {
      Map& map = std::get<Map>(stack_.back().value.data);
      if (map.size() >= kMaxMapEntries) return fail(Reject::TooLarge);
      for (const auto& entry : map)
        if (entry.first == text) return fail(Reject::NotCanonical);
      stack_.back().key = text;
      return true;
    }
    return put(std::string(text));
  }
  bool visit_bin(const char* v, std::uint32_t size) { return put(Binary{Bytes(v, size)}); }
  bool visit_ext(const char*, std::uint32_t) { return fail(Reject::WrongType); }
  bool start_array(std::uint32_t count) { return open(Array{}, count, 1); }
  bool end_array() { return close(); }
  bool start_map(std::uint32_t count) {
    if (count > kMaxMapEntries) return fail(Reject::TooLarge);
    return open(Map{}, count, 2);
  }
  bool start_map_key() {
    stack_.back().want_key = true;
    return true;
  }
  bool end_map_key() {
    stack_.back().want_key = false;
    return true;
  }
  bool end_map() { return close(); }
  void parse_error(std::size_t, std::size_t) {
    if (!why) why = Reject::BadMsgpack;
  }
  void insufficient_bytes(std::size_t, std::size_t) {
    if (!why) why = Reject::Truncated;
  }

 private:
  struct Level {
    Value value;
    std::string key;
    bool want_key = false;
  };

  bool fail(Reject reject) {
    why = reject;
    return false;
  }
  bool open(Value container, std::uint32_t count, std::uint32_t items_each) {
    if (!stack_.empty() && stack_.back().want_key) return fail(Reject::WrongType);
    if (stack_.size() >= kMaxBodyDepth) return fail(Reject::TooDeep);
    if (std::uint64_t{count} * items_each > budget_) return fail(Reject::Truncated);
    stack_.push_back({std::move(container), {}, false});
    return true;
  }
  bool close() {
    Value done = std::move(stack_.back().value);
    stack_.pop_back();
    return put(std::move(done));
  }
  bool put(Value value) {
    if (stack_.empty()) {
      root = std::move(value);
      return true;
    }
    Level& top = stack_.back();
    if (top.want_key) return fail(Reject::WrongType);
    if (auto* array = std::get_if<Array>(&top.value.data))
      array->push_back(std::move(value));
    else
      std::get<Map>(top.value.data).emplace_back(std::move(top.key), std::move(value));
    return true;
  }

  std::vector<Level> stack_;
  std::size_t budget_;
};

nlohmann::ordered_json json_of(const Value& value) {
  struct Visit {
    nlohmann::ordered_json operator()(std::monostate) const { return nullptr; }
    nlohmann::ordered_json operator()(bool v) const { return v; }
    nlohmann::ordered_json operator()(std::int64_t v) const { return v; }
    nlohmann::ordered_json operator()(std::uint64_t v) const { return v; }
    nlohmann::ordered_json operator()(double v) const { return v; }
    nlohmann::ordered_json operator()(const std::string& v) const { return v; }
    nlohmann::ordered_json operator()(const Binary& v) const { return to_hex(v.bytes); }
    nlohmann::ordered_json operator()(const Array& v) const {
      auto out = nlohmann::ordered_json::array();
      for (const Value& item : v) out.push_back(json_of(item));
      return out;
    }
    nlohmann::ordered_json operator()(const Map& v) const {
      auto out = nlohmann::ordered_json::object();
      for (const auto& [key, item] : v) out[key] = json_of(item);
      return out;
    }
  };
  return std::visit(Visit{}, value.data);
}

// The same from JSON, which says no counts beforehand.
class JsonBuilder {
 public:
  using json = nlohmann::ordered_json;

  bool null() { return builder_.visit_nil(); }
  bool boolean(bool v) { return builder_.visit_boolean(v); }
  bool number_integer(json::number_integer_t v) { return builder_.visit_negative_integer(v); }
  bool number_unsigned(json::number_unsigned_t v) { return builder_.visit_positive_integer(v); }
  bool number_float(json::number_float_t v, const std::string&) {
    return builder_.visit_float64(v);
  }
  bool string(const std::string& v) { return text(v); }
  bool binary(const json::binary_t&) { return false; }  // not in JSON's text
  bool start_object(std::size_t) { return builder_.start_map(0); }
  bool key(const std::string& v) {
    return builder_.start_map_key() && text(v) && builder_.end_map_key();
  }
  bool end_object() { return builder_.end_map(); }
  bool start_array(std::size_t) { return builder_.start_array(0); }
  bool end_array() { return builder_.end_array(); }
  bool parse_error(std::size_t, const std::string&, const json::exception&) { return false; }

  Value take() { return std::move(builder_.root); }

 private:
  bool text(const std::string& v) {
    return builder_.visit_str(v.data(), static_cast<std::uint32_t>(v.size()));
  }
  Builder builder_{0};
};

}  // namespace

void pack_to(Bytes& out, const Value& value) {
  Sink sink{out};
  msgpack::packer<Sink> packer(sink);
  pack_value(packer, value);
}

Bytes pack(const Value& value) {
  Bytes out;
  pack_to(out, value);
  return out;
}

Decoded<Value> unpack(ByteView bytes) {
  Builder builder(bytes.size());
  std::size_t offset = 0;
  const bool parsed = msgpack::parse(bytes.data(), bytes.size(), offset, builder);
  if (builder.why) return refuse(*builder.why);
  if (!parsed) return refuse(Reject::Truncated);
  if (offset != bytes.size()) return refuse(Reject::TrailingBytes);
  return std::move(builder.root);
}

std::string to_json(const Value& value) {
  return json_of(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<Value> from_json(std::string_view text) {
  JsonBuilder builder;
  if (!nlohmann::ordered_json::sax_parse(text, &builder)) return std::nullopt;
  return builder.take();
}

template <>
Decoded<std::uint64_t> field(const Value& map, std::string_view key) {
  const Value* value = map.find(key);
  if (!value) return refuse(Reject::MissingKey);
  const auto number = value->as_u64();
  if (!number) return refuse(Reject::WrongType);
  return *number;
}

template <>
Decoded<std::string> field(const Value& map, std::string_view key) {
  const Value* value = map.find(key);
  if (!value) return refuse(Reject::MissingKey);
  const auto* text = value->as_text();
  if (!text) return refuse(Reject::WrongType);
  return *text;
}

template <>
Decoded<Hash> field(const Value& map, std::string_view key) {
  const Value* value = map.find(key);
  if (!value) return refuse(Reject::MissingKey);
  const auto hash = value->as_hash();
  if (!hash) return refuse(Reject::WrongType);
  return *hash;
}

}  // namespace mirrorbus::proto
