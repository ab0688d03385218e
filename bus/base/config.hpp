// A configuration file: TOML, read strictly. Whoever reads it asks for what it knows; finish() then
// refuses what nobody asked for. Every error is a ConfigError that reads
//
//   FILE:LINE: [table] key: what is wrong, what is allowed
//
// A program that needs only a part of a file (a tool given a daemon's) leaves finish() out.
#pragma once

#include "bus/base/clock.hpp"

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus::base {

class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "500ms", "2s", "10m", "24h", "7d", "0s"; nothing for anything else.
std::optional<Duration> parse_duration(std::string_view text);
// "0", "512", "100kB", "300MB", "8MiB", "2GB", "1TiB" (k, M, G, T: powers of 1000; with i of 1024).
std::optional<std::uint64_t> parse_size(std::string_view text);

class ConfigTable;

class Config {
 public:
  static Config load(const std::string& path);
  // `name` stands for the file in errors.
  static Config parse(std::string_view text, const std::string& name);

  ConfigTable root() const;
  // What root() has under that name; see ConfigTable.
  ConfigTable table(std::string_view name) const;
  std::vector<ConfigTable> tables(std::string_view name) const;

  // Refuses the first key or table that nobody asked for.
  void finish() const;

 private:
  friend class ConfigTable;
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the tables read from it
};

// One table, present or not: an absent one has no keys, so every getter gives its fallback. Getters
// without a fallback raise if the key is absent; find_… give nothing. All raise on another type or
// a value out of range.
class ConfigTable {
 public:
  bool present() const;
  bool has(std::string_view key) const;

  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  std::optional<std::string> find_text(std::string_view key) const;
  // One of a closed list.
  std::string choice(std::string_view key, std::initializer_list<std::string_view> allowed,
                     std::string_view fallback) const;
  std::int64_t integer(std::string_view key, std::int64_t fallback,
                       std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  bool boolean(std::string_view key, bool fallback) const;
  Duration duration(std::string_view key, Duration fallback, Duration least = Duration::zero(),
                    Duration most = Duration::max()) const;
  // Bytes; written as text with a unit or as a plain integer.
  std::uint64_t size(std::string_view key, std::uint64_t fallback, std::uint64_t least = 0,
                     std::uint64_t most = std::numeric_limits<std::int64_t>::max()) const;
  // A list of text; one text alone counts as a list of one. Empty if absent.
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key, std::vector<std::string> fallback) const;
  ConfigTable table(std::string_view key) const;
  // `[[key]]`, or a list of inline tables. Empty if absent.
  std::vector<ConfigTable> tables(std::string_view key) const;
  // Every key there is, in the file's order: for tables whose keys are names of the operator's.
  std::vector<std::string> keys() const;

  // Raises about `key` (or, if it is empty, about the table), naming file and line.
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;
  const std::string& name() const { return name_; }  // "tree", "trust.allow"; "" for the root

 private:
  friend class Config;
  ConfigTable(std::shared_ptr<Config::Impl> file, const void* node, std::string name, int line,
              bool listed)
      : file_(std::move(file)), node_(node), name_(std::move(name)), line_(line), listed_(listed) {}

  std::shared_ptr<Config::Impl> file_;
  const void* node_;  // a toml::table of file_, or nullptr if absent
  std::string name_;
  int line_;     // where the table begins, or where it would be looked for
  bool listed_;  // one of [[name]]
};

}  // namespace mirrorbus::base
