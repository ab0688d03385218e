// What went wrong with single entries while a tree is changed, apart from what concerns everything.
#pragma once

#include "proto/bytes.hpp"

#include <string>
#include <system_error>
#include <unordered_map>

namespace mirrorbus::tree {

// Errors of single entries: why each is not as it should be. Bounded.
class ItemErrors {
 public:
  void add(proto::Bytes path, std::string why);
  // Runs `work` and notes its std::system_error for `path`, unless it concerns everything.
  template <class Work>
  bool guard(const proto::Bytes& path, Work&& work) {
    try {
      work();
      return true;
    } catch (const std::system_error& error) {
      if (concerns_all(error)) throw;
      add(path, error.what());
      return false;
    }
  }
  bool empty() const { return why_.empty(); }
  const std::string* of(const proto::Bytes& path) const;
  static bool concerns_all(const std::system_error& error);

 private:
  static constexpr std::size_t kKept = 100'000;
  std::unordered_map<proto::Bytes, std::string> why_;
};

}  // namespace mirrorbus::tree
