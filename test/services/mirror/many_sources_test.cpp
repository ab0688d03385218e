// Several HTTP servers as one source: what one lacks, spoils or breaks off comes from the next.
#include "services/mirror/many_sources.hpp"

#include "bus/net/http_server.hpp"
#include "proto/content.hpp"
#include "proto/sha256.hpp"
#include "services/tree/progress.hpp"
#include "test/services/mirror/virtual_clock.hpp"

#include <map>
#include <optional>
#include <thread>

#include <fmt/core.h>
#include <catch2/catch.hpp>

using namespace mirrorbus;
using mirror::ManySources;
using mirror::SourceList;
using proto::Bytes;
using proto::Hash;

namespace {

// Objects and packs, by hash; as a daemon has them or, without `post`, as files.
struct Server {
  explicit Server(bool post = true) {
    net::HttpOptions options;
    options.name = "test";
    options.listen = "127.0.0.1:0";
    server.emplace(loop, options, registry, base::Log());
    url = fmt::format("http://127.0.0.1:{}", server->port());
    for (const char* folder : {"/objects/", "/packs/"})
      server->route(folder, [this](const net::HttpRequest& request, net::HttpReply reply) {
        Hash hash;
        if (!from_hex(request.path.substr(request.path.rfind('/') + 1), hash) ||
            !things.contains(hash))
          return reply(net::HttpResponse::text(404, "no\n"));
        ++asked;
        net::HttpResponse response;
        response.body = things.at(hash);
        reply(std::move(response));
      });
    if (post)
      server->route("/objects", [this](const net::HttpRequest& request, net::HttpReply reply) {
        Bytes body;
        const auto hashes = proto::decode_content_request(request.body);
        for (const Hash& hash : *hashes) {
          const auto it = things.find(hash);
          if (it == things.end()) {
            proto::append_content_gone(body, hash);
            continue;
          }
          ++asked;
          proto::append_content_header(body, hash, it->second.size());
          body += it->second;
        }
        if (cut_at < body.size()) body.resize(cut_at);
        net::HttpResponse response;
        response.body = std::move(body);
        reply(std::move(response));
      });
    thread = std::thread([this] { loop.run(); });
  }
  ~Server() {
    loop.stop();
    thread.join();
  }
  std::map<Hash, Bytes> things;
  std::size_t cut_at = SIZE_MAX;
  int asked = 0;
  std::string url;
  base::SystemClock clock;
  base::Loop loop{clock};
  base::Registry registry;
  std::optional<net::HttpServer> server;
  std::thread thread;
};

// Takes what is right, complains about what is not, as a Stager does.
struct Taker final : tree::ContentSink {
  explicit Taker(ManySources& from) : from_(from) {}
  void begin(const Hash& hash) override {
    hash_ = hash;
    bytes_.clear();
  }
  void write(proto::ByteView bytes) override { bytes_ += bytes; }
  void end() override {
    if (proto::sha256(bytes_) == hash_)
      got[hash_] = bytes_;
    else
      from_.bad(hash_, proto::Reject::BadHash, "is not what was signed");
  }
  void gone(const Hash& hash, const std::string& reason) override { lacking[hash] = reason; }
  std::map<Hash, Bytes> got;
  std::map<Hash, std::string> lacking;

 private:
  ManySources& from_;
  Hash hash_;
  Bytes bytes_;
};

std::vector<tree::Wanted> objects(int count) {
  std::vector<tree::Wanted> list;
  for (int number = 0; number < count; ++number) {
    const Bytes content = "content " + std::to_string(number);
    list.push_back({proto::sha256(content), content.size()});
  }
  return list;
}
Bytes content(int number) { return "content " + std::to_string(number); }

void ask_again_and_again(ManySources& all, const std::vector<tree::Wanted>& wanted, Taker& taker) {
  for (std::size_t round = 0; round <= all.places(); ++round) {
    std::vector<tree::Wanted> open;
    for (const auto& each : wanted)
      if (!taker.got.contains(each.hash)) open.push_back(each);
    if (open.empty()) return;
    all.fetch_objects(open, taker);
  }
}

}  // namespace

TEST_CASE("what one source lacks comes from the next", "[sources]") {
  Server first, second;
  const auto wanted = objects(10);
  for (int number = 0; number < 10; ++number)
    (number % 2 ? first : second).things[wanted[static_cast<std::size_t>(number)].hash] =
        content(number);
  SourceList list(first.clock);
  list.set(SourceList::configured({first.url, second.url}));
  ManySources all(list, [&](const std::string&) { return list.order(); });
  Taker taker(all);
  all.fetch_objects(wanted, taker);
  CHECK(taker.got.size() == 10);
  CHECK(taker.lacking.empty());
  CHECK(list.places()[0].bytes > 0);
  CHECK(list.places()[1].bytes > 0);
  // And what none has is said to be gone.
  all.fetch_objects(std::vector<tree::Wanted>{{proto::sha256("nowhere"), 7}}, taker);
  CHECK(taker.lacking.size() == 1);
}

TEST_CASE("who is away for long does not hold back what the others lack", "[sources]") {
  Server there;
  const auto wanted = objects(3);
  there.things[wanted[0].hash] = content(0);
  test::VirtualClock clock;
  SourceList list(clock);
  list.set(SourceList::configured({"http://127.0.0.1:1", there.url}));
  const auto fetch = [&] {
    ManySources all(list, [&](const std::string&) { return list.order(); });
    Taker taker(all);
    try {
      all.fetch_objects(wanted, taker);
    } catch (const tree::SourceError&) {
      return std::size_t{0};
    }
    CHECK(taker.got.size() == 1);
    return taker.lacking.size();
  };
  CHECK(fetch() == 0);  // it may have them, and be back in a moment
  clock.pass(SourceList::kGivenUp - std::chrono::seconds(1));
  CHECK(fetch() == 0);
  clock.pass(std::chrono::seconds(1));
  CHECK(fetch() == 2);
  // Where nobody answers nothing is known.
  list.set(SourceList::configured({"http://127.0.0.1:1"}));
  CHECK(fetch() == 0);
  list.delivered("http://127.0.0.1:1", 1);
  list.set(SourceList::configured({"http://127.0.0.1:1", there.url}));
  CHECK(fetch() == 0);
}

TEST_CASE("what a source spoils comes from the next, and after three it is set aside",
          "[sources]") {
  Server liar, good;
  const int spoilt = GENERATE(2, 3);
  const auto wanted = objects(20);
  for (int number = 0; number < 20; ++number) {
    const Hash hash = wanted[static_cast<std::size_t>(number)].hash;
    good.things[hash] = content(number);
    liar.things[hash] = content(number);
    if (number < spoilt) liar.things[hash][0] = 'C';
  }
  SourceList list(liar.clock);
  list.set(SourceList::configured({liar.url, good.url}));
  ManySources all(list, [&](const std::string&) { return list.order(); });
  Taker taker(all);
  ask_again_and_again(all, wanted, taker);
  CHECK(taker.got.size() == 20);
  CHECK(list.places()[0].bad_items == static_cast<std::uint64_t>(spoilt));
  CHECK(all.complaints().at(proto::Reject::BadHash) == static_cast<std::uint64_t>(spoilt));
  if (spoilt < 3) {
    CHECK(good.asked == spoilt);  // not from the beginning
    return;
  }
  CHECK(list.places()[0].state == SourceList::State::SetAside);
  const int before = liar.asked;
  taker.got.clear();
  all.fetch_objects(wanted, taker);
  CHECK(taker.got.size() == 20);
  CHECK(liar.asked == before);
}

TEST_CASE("an answer that breaks off goes on elsewhere", "[sources]") {
  Server broken, good;
  const auto wanted = objects(8);
  for (int number = 0; number < 8; ++number)
    broken.things[wanted[static_cast<std::size_t>(number)].hash] =
        good.things[wanted[static_cast<std::size_t>(number)].hash] = content(number);
  broken.cut_at = 3 * (proto::kContentHeaderSize + content(0).size()) + 5;
  SourceList list(good.clock);
  list.set(SourceList::configured({broken.url, good.url}));
  ManySources all(list, [&](const std::string&) { return list.order(); });
  Taker taker(all);
  all.fetch_objects(wanted, taker);
  CHECK(taker.got.size() == 8);
  CHECK(good.asked == 5);
  CHECK(list.places()[0].state == SourceList::State::Failing);
}

TEST_CASE("a server that only holds files is asked for each", "[sources]") {
  Server files(false);
  const auto wanted = objects(5);
  for (int number = 0; number < 5; ++number)
    files.things[wanted[static_cast<std::size_t>(number)].hash] = content(number);
  SourceList list(files.clock);
  list.set(SourceList::configured({files.url}));
  ManySources all(list, [&](const std::string&) { return list.order(); });
  Taker taker(all);
  all.fetch_objects(wanted, taker);
  CHECK(taker.got.size() == 5);
}

namespace {

// What is named one after the other, each when what was named before has failed.
struct Namers {
  SourceList& list;
  std::vector<SourceList::Named> named;
  std::size_t next = 0;
  std::vector<std::string> troubles{};  // as each time told
  std::vector<std::string> operator()(const std::string& trouble) {
    troubles.push_back(trouble);
    if (next < named.size()) list.add({named[next]});
    ++next;
    return list.order();
  }
};

}  // namespace

TEST_CASE("where all that was named fails, others are asked within the same work", "[sources]") {
  Server empty, liar, good, late;
  const auto wanted = objects(6);
  for (int number = 0; number < 6; ++number) {
    const Hash hash = wanted[static_cast<std::size_t>(number)].hash;
    good.things[hash] = content(number);
    liar.things[hash] = "something else";
  }
  const int which = GENERATE(0, 1, 2);
  const std::string first = which == 0   ? "http://127.0.0.1:1"
                            : which == 1 ? empty.url
                                         : liar.url;
  CAPTURE(first);
  SourceList list(good.clock);
  Namers namers{list, SourceList::configured({first, "http://127.0.0.1:2", good.url, late.url})};
  ManySources all(list, std::ref(namers));
  Taker taker(all);
  ask_again_and_again(all, wanted, taker);
  CHECK(taker.got.size() == 6);
  CHECK(taker.lacking.empty());
  CHECK(namers.next == 3);  // and no further
  CHECK(namers.troubles[0].empty());
  CHECK(namers.troubles[1].find(first) != std::string::npos);
  if (which == 2) CHECK(namers.troubles[1].find("too_large") != std::string::npos);
  // What nobody has is asked for until there is nobody else.
  const std::vector<tree::Wanted> nowhere{{proto::sha256("nowhere"), 7}};
  CHECK_THROWS_AS(all.fetch_objects(nowhere, taker), tree::SourceError);  // one may be back soon
  CHECK(namers.next == 5);
  CHECK_THROWS_AS(all.fetch_objects(nowhere, taker), tree::SourceError);
  CHECK(namers.next == 5);
}

TEST_CASE("for a pack others are asked only where nobody answers", "[sources]") {
  Server empty, good;
  const Bytes pack = "all that has changed";
  const tree::Wanted wanted{proto::sha256(pack), pack.size()};
  good.things[wanted.hash] = pack;
  const bool answers = GENERATE(true, false);
  CAPTURE(answers);
  SourceList list(good.clock);
  Namers namers{list, SourceList::configured({answers ? empty.url : "http://127.0.0.1:1",
                                              good.url})};
  ManySources all(list, std::ref(namers));
  Taker taker(all);
  all.fetch_pack(wanted, 0, taker);
  // Who has kept no pack has the contents, and who sent us to him is to be spared.
  CHECK(taker.got.size() == (answers ? 0 : 1));
  CHECK(namers.next == (answers ? 1U : 2U));
  // A content that he has not got there is no other way to.
  if (answers) all.fetch_range(wanted, 0, taker);
  CHECK(taker.got.size() == 1);
}

TEST_CASE("a place that one may not name is asked when another names it", "[sources]") {
  Server good;
  const auto wanted = objects(2);
  for (int number = 0; number < 2; ++number)
    good.things[wanted[static_cast<std::size_t>(number)].hash] = content(number);
  SourceList list(good.clock);
  Namers namers{list,
                {{good.url, mirror::SourceReach::named_at("192.0.2.7")},
                 {good.url, mirror::SourceReach::named_at("127.0.0.1")}}};
  ManySources all(list, std::ref(namers));
  Taker taker(all);
  all.fetch_objects(wanted, taker);
  CHECK(taker.got.size() == 2);
  CHECK(namers.next == 2);
  CHECK(all.complaints().at(proto::Reject::ForbiddenAddress) == 1);
  CHECK(all.has_all({good.url}));
  list.add({{good.url, mirror::SourceReach::anywhere()}});
  CHECK_FALSE(all.has_all({good.url}));
}

TEST_CASE("what was cancelled is not a source's failure", "[sources]") {
  Server server;
  SourceList list(server.clock);
  list.set(SourceList::configured({server.url}));
  ManySources all(list, [&](const std::string&) { return list.order(); });
  all.cancel();
  Taker taker(all);
  CHECK_THROWS_AS(all.fetch_objects(objects(1), taker), tree::Cancelled);
  CHECK(list.places()[0].state == SourceList::State::Ready);
}

TEST_CASE("a source that another host names at our loopback address is not asked",
          "[sources]") {
  Server inward, good;
  const auto wanted = objects(4);
  for (int number = 0; number < 4; ++number)
    good.things[wanted[static_cast<std::size_t>(number)].hash] =
        inward.things[wanted[static_cast<std::size_t>(number)].hash] = content(number);
  // By number, and by a name that leads there.
  const std::string port = inward.url.substr(inward.url.rfind(':'));
  const std::string url = "http://" + std::string(GENERATE("127.0.0.1", "localhost", "[::1]",
                                                           "[::ffff:127.0.0.1]", "0.0.0.0")) +
                          port;
  CAPTURE(url);
  SourceList list(good.clock);
  const auto fetch = [&] {
    ManySources all(list, [&](const std::string&) { return list.order(); });
    Taker taker(all);
    all.fetch_objects(wanted, taker);
    CHECK(taker.got.size() == 4);
    const auto complaints = all.complaints();
    const auto found = complaints.find(proto::Reject::ForbiddenAddress);
    return found == complaints.end() ? std::uint64_t{0} : found->second;
  };
  const auto operators = SourceList::configured({good.url}).front();
  list.set({{url, mirror::SourceReach::named_at("192.0.2.7")}, operators});
  CHECK(fetch() == 1);
  CHECK(inward.asked == 0);
  CHECK(list.places()[0].state == SourceList::State::Refused);
  CHECK(list.places()[0].last_error.starts_with("forbidden_address: "));
  CHECK(fetch() == 0);
  if (url.find("[::") != url.npos) return;  // nobody listens there
  // Somebody on this host may name it.
  list.set({{url, mirror::SourceReach::named_at("127.0.0.1")}, operators});
  CHECK(fetch() == 0);
  CHECK(inward.asked == 4);
}
