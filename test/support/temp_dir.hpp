// A directory of a test's own, removed with everything in it.
#pragma once

#include "bus/base/fd.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace mirrorbus::test {

class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& under = std::filesystem::temp_directory_path())
      : path_((under / "mirrorbus-test-XXXXXX").string()) {
    if (!::mkdtemp(path_.data())) base::throw_errno("making " + path_);
  }
  ~TempDir() {
    std::error_code ignored;  // a test may have removed it itself
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream(*this / name, std::ios::binary) << content;
    return *this / name;
  }

 private:
  std::string path_;
};

}  // namespace mirrorbus::test
