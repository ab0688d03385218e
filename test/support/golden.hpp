// Golden vectors: bytes kept under test/vectors/ that every later version must still produce and
// read. TEST_ACCEPT=1 writes them anew; the change then shows in the commit.
#pragma once

#include "proto/bytes.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace mirrorbus::test {

inline std::filesystem::path vector_path(const std::string& name) {
  const char* root = std::getenv("MIRRORBUS_VECTORS");
  if (!root) throw std::runtime_error("MIRRORBUS_VECTORS is not set: run through meson test");
  return std::filesystem::path(root) / name;
}

inline proto::Bytes read_vector(const std::string& name) {
  std::ifstream in(vector_path(name), std::ios::binary);
  if (!in) throw std::runtime_error("no vector " + name + ": make it with TEST_ACCEPT=1");
  return {std::istreambuf_iterator<char>(in), {}};
}

// `bytes` are what the vector holds (or, when accepting, now do).
inline bool is_golden(const std::string& name, proto::ByteView bytes) {
  if (std::getenv("TEST_ACCEPT")) {
    std::filesystem::create_directories(vector_path(name).parent_path());
    std::ofstream(vector_path(name), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  return read_vector(name) == bytes;
}

}  // namespace mirrorbus::test
