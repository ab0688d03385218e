#include "services/tree/metadata_policy.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using tree::MetadataPolicy;

TEST_CASE("at its birth a file lets nobody do more than all may do with it", "[policy]") {
  const MetadataPolicy policy({}, {}, nullptr);
  const auto born = [&](std::uint32_t mode) {
    proto::Entry entry;
    entry.type = proto::EntryType::File;
    entry.mode = mode;
    return policy.mode_at_birth(entry);
  };
  CHECK(born(0644) == 0644);
  CHECK(born(0755) == 0755);
  CHECK(born(0600) == 0600);
  CHECK(born(0444) == 0444);
  // Its group may still be another one.
  CHECK(born(0640) == 0600);
  CHECK(born(0664) == 0644);
  CHECK(born(0770) == 0700);
  CHECK(born(0604) == 0600);
  // Its owner, too.
  CHECK(born(06755) == 0755);
  CHECK(born(01777) == 0777);
}
