// A tree and the origin that publishes it, in a directory of their own.
#pragma once

#include "services/tree/origin_tree.hpp"
#include "test/support/temp_dir.hpp"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <catch2/catch.hpp>

namespace mirrorbus::test {

struct OriginFixture {
  TempDir tmp;
  tree::OriginSettings settings;
  std::unique_ptr<tree::OriginTree> origin;
  base::WallTime now = base::from_ns(1'790'000'000'000'000'000);

  explicit OriginFixture(tree::StoreKind store) {
    settings.name = "t";
    settings.path = tmp / "tree";
    settings.store = store;
    settings.durable = false;
    settings.scan.settle = std::chrono::nanoseconds(0);
    std::filesystem::create_directory(settings.path);
  }
  void open() {
    origin.reset();
    origin = std::make_unique<tree::OriginTree>(settings);
  }
  std::string at(const std::string& path) const { return settings.path + "/" + path; }
  // As rsync does it: a new inode.
  void write(const std::string& path, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(at(path)).parent_path());
    std::ofstream(at("new.tmp"), std::ios::binary) << content;
    std::filesystem::rename(at("new.tmp"), at(path));
  }
  tree::OriginTree::Closing close(bool asked = true) {
    if (!origin) open();
    origin->scan_all(false);
    now += std::chrono::seconds(1);
    return origin->close_version(now, asked);
  }
  tree::StoredVersion closed() {
    const auto closing = close();
    REQUIRE(closing.state == tree::OriginTree::Closing::State::Closed);
    return *closing.version;
  }
};

}  // namespace mirrorbus::test
