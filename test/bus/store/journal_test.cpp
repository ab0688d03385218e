#include "bus/store/memory_journal.hpp"
#include "bus/store/sqlite_journal.hpp"

#include "test/support/temp_dir.hpp"

#include <catch2/catch.hpp>

#include <fmt/core.h>

using namespace mirrorbus;

TEST_CASE("a journal is cut off after a seq, and knows the first credentials", "[journal]") {
  test::TempDir tmp;
  store::SqliteJournal journal(tmp / "journal.sqlite");
  for (std::uint64_t n = 0; n < 2500; ++n) {
    const store::JournalRow row{7, n + 1, 2 * n + 1, 2 * n + 2, n, {}, "row", {}};
    journal.append({&row, 1});
  }
  journal.remove_after(4000);
  CHECK(journal.tail().last_seq == 4000);
  CHECK(journal.tail().number == 2000);
  journal.remove_after(99);  // in the middle of a row
  CHECK(journal.tail().last_seq == 98);
  journal.remove_after(0);
  CHECK(journal.tail().last_seq == 0);
  for (std::uint64_t epoch : {3, 5, 9})
    for (std::uint32_t serial : {0, 1}) {
      proto::Credential credential;
      credential.epoch = epoch;
      credential.serial = serial;
      journal.put_credential(credential, {fmt::format("{}.{}", epoch, serial), "signed"});
    }
  const auto found = journal.first_credentials_after(3, 10);
  REQUIRE(found.size() == 2);
  CHECK(found[0].document == "5.0");
  CHECK(found[1].document == "9.0");
  CHECK(journal.first_credentials_after(0, 1).front().document == "3.0");
}

TEST_CASE("a time is found in a journal whose clock was set back", "[journal]") {
  test::TempDir tmp;
  store::MemoryJournal memory(1 << 20);
  store::SqliteJournal sqlite(tmp / "journal.sqlite");
  // Two events each; the second epoch began with the clock an hour behind.
  const store::JournalRow rows[] = {{1, 1, 1, 2, 5000, {}, "row", {}},
                                    {1, 2, 3, 4, 5010, {}, "row", {}},
                                    {2, 1, 5, 6, 1400, {}, "row", {}},
                                    {2, 2, 7, 8, 1410, {}, "row", {}}};
  for (store::Journal* journal : {static_cast<store::Journal*>(&memory), static_cast<store::Journal*>(&sqlite)}) {
    CHECK(journal->seq_before(5000) == 0);
    journal->append(rows);
    CHECK(journal->seq_before(0) == 0);
    CHECK(journal->seq_before(5000) == 0);
    CHECK(journal->seq_before(5001) == 2);
    CHECK(journal->seq_before(5010) == 2);
    CHECK(journal->seq_before(1405) == 0);  // the first epoch was later
    CHECK(journal->seq_before(6000) == 8);
  }
}
