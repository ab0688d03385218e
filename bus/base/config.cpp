#include "bus/base/config.hpp"

#include "bus/base/fd.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <fcntl.h>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

namespace mirrorbus::base {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr Unit kDurationUnits[] = {{"ns", 1},
                                   {"us", 1'000},
                                   {"ms", 1'000'000},
                                   {"s", 1'000'000'000},
                                   {"m", 60'000'000'000},
                                   {"h", 3'600'000'000'000},
                                   {"d", 86'400'000'000'000}};
constexpr Unit kSizeUnits[] = {{"", 1},
                               {"B", 1},
                               {"kB", 1'000},
                               {"MB", 1'000'000},
                               {"GB", 1'000'000'000},
                               {"TB", 1'000'000'000'000},
                               {"KiB", std::uint64_t{1} << 10},
                               {"MiB", std::uint64_t{1} << 20},
                               {"GiB", std::uint64_t{1} << 30},
                               {"TiB", std::uint64_t{1} << 40}};

// A whole number and a unit, as a product that fits an int64.
template <std::size_t N>
std::optional<std::uint64_t> parse_units(std::string_view text, const Unit (&units)[N]) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  const auto it = std::ranges::find(units, unit, &Unit::name);
  std::uint64_t product = 0;
  if (it == std::end(units) || __builtin_mul_overflow(number, it->factor, &product) ||
      product > INT64_MAX)
    return std::nullopt;
  return product;
}

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "a list";
    case toml::node_type::string: return "text";
    case toml::node_type::integer: return "a number";
    case toml::node_type::floating_point: return "a fractional number";
    case toml::node_type::boolean: return "true or false";
    default: return "a date or time";
  }
}

int line_of(const toml::node& node) { return static_cast<int>(node.source().begin.line); }

std::string show(Duration duration) {
  const auto ns = static_cast<std::uint64_t>(duration.count());
  for (const Unit& unit :
       {Unit{"h", 3'600'000'000'000}, Unit{"s", 1'000'000'000}, Unit{"ms", 1'000'000}})
    if (ns % unit.factor == 0) return fmt::format("{}{}", ns / unit.factor, unit.name);
  return fmt::format("{}ns", ns);
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  const auto ns = parse_units(text, kDurationUnits);
  return ns ? std::optional(Duration(static_cast<std::int64_t>(*ns))) : std::nullopt;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  return parse_units(text, kSizeUnits);
}

struct Config::Impl {
  std::string name;
  toml::table root;
  // What was asked for: the nodes that were there, and by table name every key, there or not.
  std::unordered_set<const toml::node*> asked;
  std::unordered_map<std::string, std::set<std::string, std::less<>>> known;

  [[noreturn]] void fail(int line, const std::string& where, const std::string& what) const {
    throw ConfigError(line > 0 ? fmt::format("{}:{}: {}{}", name, line, where, what)
                               : fmt::format("{}: {}{}", name, where, what));
  }

  static std::string where(const std::string& table, bool listed, std::string_view key) {
    const std::string head = table.empty() ? ""
                             : listed      ? fmt::format("[[{}]]", table)
                                           : fmt::format("[{}]", table);
    if (head.empty()) return key.empty() ? "" : fmt::format("{}: ", key);
    return key.empty() ? head + ": " : fmt::format("{} {}: ", head, key);
  }

  const toml::node* ask(const toml::table* table, const std::string& table_name,
                        std::string_view key) {
    known[table_name].emplace(key);
    const toml::node* node = table ? table->get(key) : nullptr;
    if (node) asked.insert(node);
    return node;
  }

  void refuse_unasked(const toml::table& table, const std::string& table_name, bool listed) const {
    for (const auto& [key, node] : table) {
      const std::string inner =
          table_name.empty() ? std::string(key.str()) : fmt::format("{}.{}", table_name, key.str());
      if (!asked.contains(&node)) {
        const auto it = known.find(table_name);
        const std::string allowed =
            it == known.end() ? "" : fmt::format(", known are: {}", fmt::join(it->second, ", "));
        if (node.is_table() || node.is_array_of_tables())
          fail(line_of(node), where(inner, node.is_array(), ""), "unknown table" + allowed);
        fail(static_cast<int>(key.source().begin.line), where(table_name, listed, key.str()),
             "unknown key" + allowed);
      }
      if (const toml::table* sub = node.as_table()) refuse_unasked(*sub, inner, false);
      if (const toml::array* list = node.as_array())
        for (const toml::node& item : *list)
          if (const toml::table* sub = item.as_table()) refuse_unasked(*sub, inner, true);
    }
  }
};

Config Config::load(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw_errno("opening configuration " + path);
  std::string text;
  char block[4096];
  for (;;) {
    const ssize_t got = ::read(fd.get(), block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno("reading configuration " + path);
    if (got == 0) return parse(text, path);
    text.append(block, static_cast<std::size_t>(got));
  }
}

Config Config::parse(std::string_view text, const std::string& name) {
  Config config;
  config.impl_ = std::make_shared<Impl>();
  config.impl_->name = name;
  try {
    config.impl_->root = toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    config.impl_->fail(static_cast<int>(error.source().begin.line), "",
                       fmt::format("not TOML: {}", error.description()));
  }
  return config;
}

ConfigTable Config::root() const { return ConfigTable(impl_, &impl_->root, "", 0, false); }
ConfigTable Config::table(std::string_view name) const { return root().table(name); }
std::vector<ConfigTable> Config::tables(std::string_view name) const { return root().tables(name); }
void Config::finish() const { impl_->refuse_unasked(impl_->root, "", false); }

namespace {
const toml::table* as_table(const void* node) { return static_cast<const toml::table*>(node); }

const char* expected_text(const toml::node& node) {
  const auto* text = node.as_string();
  return text ? text->get().c_str() : nullptr;
}
}  // namespace

bool ConfigTable::present() const { return node_ != nullptr; }

bool ConfigTable::has(std::string_view key) const {
  return file_->ask(as_table(node_), name_, key) != nullptr;
}

void ConfigTable::fail(std::string_view key, const std::string& what) const {
  const toml::table* table = as_table(node_);
  const toml::node* node = table ? table->get(key) : nullptr;
  file_->fail(node ? line_of(*node) : line_, Config::Impl::where(name_, listed_, key), what);
}

std::string ConfigTable::text(std::string_view key) const {
  auto found = find_text(key);
  if (!found) fail(key, "is required");
  return std::move(*found);
}

std::string ConfigTable::text(std::string_view key, std::string_view fallback) const {
  auto found = find_text(key);
  return found ? std::move(*found) : std::string(fallback);
}

std::optional<std::string> ConfigTable::find_text(std::string_view key) const {
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return std::nullopt;
  const char* text = expected_text(*node);
  if (!text) fail(key, fmt::format("is {}, must be text in quotes", type_name(*node)));
  return text;
}

std::string ConfigTable::choice(std::string_view key,
                                std::initializer_list<std::string_view> allowed,
                                std::string_view fallback) const {
  std::string value = text(key, fallback);
  if (std::ranges::find(allowed, value) == allowed.end())
    fail(key, fmt::format("\"{}\" is not one of {}", value, fmt::join(allowed, ", ")));
  return value;
}

std::int64_t ConfigTable::integer(std::string_view key, std::int64_t fallback, std::int64_t least,
                                  std::int64_t most) const {
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return fallback;
  const auto* number = node->as_integer();
  if (!number) fail(key, fmt::format("is {}, must be a whole number", type_name(*node)));
  if (number->get() < least)
    fail(key, fmt::format("is {}, must be at least {}", number->get(), least));
  if (number->get() > most)
    fail(key, fmt::format("is {}, must be at most {}", number->get(), most));
  return number->get();
}

bool ConfigTable::boolean(std::string_view key, bool fallback) const {
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return fallback;
  const auto* value = node->as_boolean();
  if (!value) fail(key, fmt::format("is {}, must be true or false", type_name(*node)));
  return value->get();
}

Duration ConfigTable::duration(std::string_view key, Duration fallback, Duration least,
                               Duration most) const {
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return fallback;
  const char* text = expected_text(*node);
  const auto value = text ? parse_duration(text) : std::nullopt;
  if (!value) {
    fail(key,
         fmt::format("{} is not a time, write e.g. \"500ms\", \"2s\", \"10m\", \"24h\", \"7d\"",
                     text ? fmt::format("\"{}\"", text) : std::string(type_name(*node))));
  }
  if (*value < least) fail(key, fmt::format("\"{}\" must be at least {}", text, show(least)));
  if (*value > most) fail(key, fmt::format("\"{}\" must be at most {}", text, show(most)));
  return *value;
}

std::uint64_t ConfigTable::size(std::string_view key, std::uint64_t fallback, std::uint64_t least,
                                std::uint64_t most) const {
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return fallback;
  std::optional<std::uint64_t> value;
  if (const auto* number = node->as_integer(); number && number->get() >= 0)
    value = static_cast<std::uint64_t>(number->get());
  if (const char* text = expected_text(*node)) value = parse_size(text);
  if (!value) fail(key, "is not a size, write e.g. \"300MB\", \"8MiB\" or a number of bytes");
  if (*value < least) fail(key, fmt::format("is {} bytes, must be at least {}", *value, least));
  if (*value > most) fail(key, fmt::format("is {} bytes, must be at most {}", *value, most));
  return *value;
}

std::vector<std::string> ConfigTable::texts(std::string_view key) const { return texts(key, {}); }

std::vector<std::string> ConfigTable::texts(std::string_view key,
                                            std::vector<std::string> fallback) const {
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return fallback;
  if (const char* one = expected_text(*node)) return {one};
  const toml::array* list = node->as_array();
  if (!list) fail(key, fmt::format("is {}, must be a list of text", type_name(*node)));
  std::vector<std::string> out;
  for (const toml::node& item : *list) {
    const char* text = expected_text(item);
    if (!text) fail(key, fmt::format("holds {}, must be a list of text only", type_name(item)));
    out.emplace_back(text);
  }
  return out;
}

ConfigTable ConfigTable::table(std::string_view key) const {
  const std::string inner = name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key);
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  if (!node) return ConfigTable(file_, nullptr, inner, line_, false);
  const toml::table* table = node->as_table();
  if (!table) fail(key, fmt::format("is {}, must be a table: [{}]", type_name(*node), inner));
  return ConfigTable(file_, table, inner, line_of(*table), false);
}

std::vector<ConfigTable> ConfigTable::tables(std::string_view key) const {
  const std::string inner = name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key);
  const toml::node* node = file_->ask(as_table(node_), name_, key);
  std::vector<ConfigTable> out;
  if (!node) return out;
  const toml::array* list = node->as_array();
  if (!list)
    fail(key, fmt::format("is {}, must be a list of tables: [[{}]]", type_name(*node), inner));
  for (const toml::node& item : *list) {
    const toml::table* table = item.as_table();
    if (!table) fail(key, fmt::format("holds {}, must be a list of tables", type_name(item)));
    out.push_back(ConfigTable(file_, table, inner, line_of(*table), true));
  }
  return out;
}

std::vector<std::string> ConfigTable::keys() const {
  std::vector<std::pair<toml::source_position, std::string>> found;
  if (const toml::table* table = as_table(node_))
    for (const auto& [key, node] : *table) found.emplace_back(key.source().begin, key.str());
  std::ranges::sort(found, {},
                    [](const auto& item) { return std::pair(item.first.line, item.first.column); });
  std::vector<std::string> out;
  for (auto& [position, key] : found) out.push_back(std::move(key));
  return out;
}

}  // namespace mirrorbus::base
