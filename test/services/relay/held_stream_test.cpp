// Rows on their way into a relay's journal of a stream, and those that are there already.
#include "services/relay/held_stream.hpp"

#include "test/bus/peer/core_fixture.hpp"
#include "test/support/temp_dir.hpp"
#include "test/support/test_loop.hpp"

#include <catch2/catch.hpp>

using namespace mirrorbus;
using relay::HeldStream;
using Place = relay::ForwardedStream::Place;

namespace {

struct Fixture : test::TestLoop {
  test::TempDir tmp;
  peer::test::TestPublisher publisher;
  std::vector<std::uint64_t> durable;  // last seqs, as they came
  std::vector<std::string> sent;       // what was sent on, as it was
  int equivocations = 0;
  std::vector<std::string> answers;
  std::uint64_t through = 0;  // of the last good answer
  HeldStream::Handlers handlers{
      [this](HeldStream&, const store::JournalRow& row) {
        durable.push_back(row.last_seq);
        sent.push_back(fmt::format("{}", row.last_seq));
      },
      [this](HeldStream& of) {
        if (of.announce_now()) sent.push_back("epoch " + epoch_of(of.newest()));
      },
      [this](HeldStream&) { ++equivocations; },
      [](std::exception_ptr error) { std::rethrow_exception(error); }};
  std::unique_ptr<HeldStream> stream;
  relay::HeldWorkers workers{loop};  // ends first: its jobs know the stream

  Fixture() {
    open();
    keep();
  }
  void open() {
    stream.reset();
    stream = std::make_unique<HeldStream>(publisher.id, publisher.name,
                                          relay::open_journal(tmp / "held.sqlite"), workers,
                                          handlers, base::Log());
  }
  std::string epoch_of(const proto::Hash& credential) {
    const auto sealed = publisher.journal.credential(credential);
    return sealed ? fmt::format("{}", proto::decode_credential(sealed->document)->epoch) : "?";
  }
  std::string keep() {
    const auto sealed = *proto::decode_sealed(publisher.sealed);
    peer::KnownCredential known;
    known.id = proto::credential_id(sealed.document);
    known.credential = *proto::decode_credential(sealed.document);
    known.sealed = sealed;
    known.stream = publisher.id;
    std::optional<std::string> said;
    stream->keep(known, [&](std::optional<proto::Reject> why) {
      said = why ? std::string(to_string(*why)) : "kept";
    });
    REQUIRE(until([&] { return said.has_value(); }));
    return *said;
  }
  static proto::Bytes row_at(peer::test::TestPublisher& of, std::uint64_t seq) {
    return of.journal.read({seq, seq, "", 1}).rows.at(0);
  }
  // As Forwarded hands them over once they are verified.
  std::string add(const std::vector<proto::Bytes>& rows) {
    HeldStream::Rows request{{}, 0, std::nullopt,
                             peer::ServeReply(1, [this](const proto::Answer& answer) {
                               answers.push_back(answer.refused
                                                     ? std::string(to_string(*answer.refused))
                                                     : "taken");
                               if (const auto far = proto::forward_answer(answer.fields))
                                 through = far->through;
                             })};
    for (const proto::Bytes& bytes : rows) {
      const auto row = proto::decode_row(bytes);
      relay::ForwardedTrust::Row verified{*proto::decode_header(row->header()),
                                          proto::header_hash(row->header()), 0};
      const auto place = stream->core().place(verified.header, 0);
      if (!place) return std::string(to_string(place.error()));
      if (*place != Place::Held)
        stream->core().accept(verified.header, verified.hash, verified.serial);
      request.bytes += bytes.size();
      request.rows.push_back({verified, *place, bytes});
    }
    const std::size_t before = answers.size();
    stream->add(std::move(request));
    REQUIRE(until([&] { return answers.size() > before; }));
    return answers.back();
  }
};

}  // namespace

TEST_CASE("rows are answered when they are durable, and again when they come again", "[forward]") {
  Fixture f;
  for (int i = 0; i < 4; ++i) (void)f.publisher.publish(peer::test::at(i));
  CHECK(f.add({f.row_at(f.publisher, 1), f.row_at(f.publisher, 2)}) == "taken");
  CHECK(f.through == 2);
  CHECK(f.durable == std::vector<std::uint64_t>{1, 2});
  CHECK(f.add({f.row_at(f.publisher, 1), f.row_at(f.publisher, 2)}) == "taken");
  CHECK(f.through == 2);
  CHECK(f.add({f.row_at(f.publisher, 4)}) == "bad_order");
  f.open();  // after a restart
  CHECK(f.stream->core().how_far().through == 2);
  CHECK(f.add({f.row_at(f.publisher, 3), f.row_at(f.publisher, 4)}) == "taken");
  CHECK(f.durable == std::vector<std::uint64_t>{1, 2, 3, 4});
  CHECK(f.equivocations == 0);
  CHECK(f.stream->idle());
  CHECK(f.stream->waiting_bytes() == 0);
}

TEST_CASE("another row under a number that is held is equivocation; the one held stays",
          "[forward]") {
  Fixture f;
  peer::test::TestPublisher twin;  // the same key, epoch and credential
  (void)f.publisher.publish(peer::test::at(0));
  (void)twin.publish(peer::test::at(0), "org.example.dev.shell.other");
  const proto::Bytes ours = f.row_at(f.publisher, 1), other = f.row_at(twin, 1);
  REQUIRE(proto::decode_header(proto::decode_row(ours)->header())->credential ==
          proto::decode_header(proto::decode_row(other)->header())->credential);
  REQUIRE(f.add({ours}) == "taken");
  CHECK(f.add({other}) == "equivocation");
  CHECK(f.equivocations == 1);
  CHECK(f.durable == std::vector<std::uint64_t>{1});
  CHECK(relay::open_journal(f.tmp / "held.sqlite").journal->read({1, 1, "", 1}).rows ==
        std::vector<proto::Bytes>{ours});
}

TEST_CASE("two credentials under one epoch and serial are equivocation", "[forward]") {
  Fixture f;
  CHECK(f.keep() == "kept");
  f.publisher.sealed = [&] {
    auto sealed = *proto::decode_sealed(f.publisher.sealed);
    auto credential = *proto::decode_credential(sealed.document);
    ++credential.issued_ns;
    sealed.document = proto::encode_credential(credential);
    return proto::encode_sealed(sealed);
  }();
  CHECK(f.keep() == "equivocation");
}

TEST_CASE("a credential is announced behind all that was sealed before it", "[forward]") {
  Fixture f;
  const auto row = [&](std::uint64_t seq) { return f.row_at(f.publisher, seq); };
  for (int i = 0; i < 3; ++i) (void)f.publisher.publish(peer::test::at(i));
  REQUIRE(f.add({row(1)}) == "taken");
  f.publisher.start(peer::test::at(4));  // killed: the relay has not had all of it
  CHECK(f.keep() == "kept");
  CHECK(f.add({row(2)}) == "taken");
  CHECK(f.sent == std::vector<std::string>{"epoch 1", "1", "2"});

  SECTION("and before what it has sealed, also if they come together") {
    (void)f.publisher.publish(peer::test::at(5));
    CHECK(f.add({row(3), row(4)}) == "taken");
    CHECK(f.sent == std::vector<std::string>{"epoch 1", "1", "2", "3", "epoch 2", "4"});
  }
  SECTION("the newest of them only") {
    f.publisher.start(peer::test::at(5));
    CHECK(f.keep() == "kept");
    CHECK(f.sent.size() == 3);
    CHECK(f.add({row(3)}) == "taken");
    CHECK(f.sent == std::vector<std::string>{"epoch 1", "1", "2", "3", "epoch 3"});
  }
  SECTION("also over a restart") {
    f.open();
    CHECK(f.keep() == "kept");
    CHECK(f.sent.size() == 3);
    CHECK(f.add({row(3)}) == "taken");
    CHECK(f.sent.back() == "epoch 2");
  }
}

TEST_CASE("a stream that went back is cut off on disk", "[forward]") {
  Fixture f;
  for (int i = 0; i < 4; ++i) (void)f.publisher.publish(peer::test::at(i));
  REQUIRE(f.add({f.row_at(f.publisher, 1), f.row_at(f.publisher, 2), f.row_at(f.publisher, 3)}) ==
          "taken");
  auto sealed = *proto::decode_sealed(f.publisher.sealed);
  auto credential = *proto::decode_credential(sealed.document);
  const proto::Bytes second = f.row_at(f.publisher, 2);
  credential.pin = {credential.epoch, 2, 2,
                    proto::header_hash(proto::decode_row(second)->header())};
  credential.epoch += 1;
  credential.new_journal = false;
  f.publisher.sealed =
      proto::encode_sealed({proto::encode_credential(credential), sealed.signature});
  CHECK(f.keep() == "kept");
  CHECK(f.stream->newest() == proto::credential_id(proto::encode_credential(credential)));
  CHECK(f.stream->core().how_far().through == 2);
  CHECK(relay::open_journal(f.tmp / "held.sqlite").tail.last_seq == 2);
}
