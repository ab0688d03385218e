// Mirrors say what they have and what they want, truly or not, and come and go while there are new
// versions. One of a place pulls at a time, and who is sent elsewhere is sent to somebody.
#include "services/mirror/pull_desk.hpp"
#include "test/fuzz/fuzz.hpp"

#include <map>
#include <set>

using namespace mirrorbus;
using mirror::PullDesk;
using Pull = proto::HaveAnswer::Pull;

namespace {

struct Said {
  std::uint64_t number = 0;
  std::string content;
  base::MonoTime until{};  // while it pulls here
  base::MonoTime since{};
};
using Key = std::pair<std::string, proto::Bytes>;

void check(const PullDesk::Verdict& verdict, const std::map<Key, Said>& all, const Key& who,
           std::uint64_t number, std::uint64_t want, std::uint64_t held) {
  fuzz::require((verdict.pull == Pull::None) == (want <= number), "who wants nothing gets nothing");
  fuzz::require(verdict.pull != Pull::Here || held >= want, "what is pulled here is here");
  fuzz::require(verdict.sources.empty() == (verdict.pull != Pull::Others),
                "who is sent to others is told to whom");
  fuzz::require(verdict.again > base::Duration::zero() && verdict.again <= std::chrono::minutes(10),
                "everybody asks again");
  std::set<std::string> contents;
  for (const auto& [key, said] : all)
    if (key != who) contents.insert(said.content);
  fuzz::require(verdict.sources.size() <= proto::kMaxReferred, "sources are few");
  for (const std::string& source : verdict.sources) {
    fuzz::require(!source.empty(), "a source is a place");
    fuzz::require(contents.contains(source), "and another's");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices in(fuzz::view(data, size));
  PullDesk desk;
  base::MonoTime now{std::chrono::hours(1)};
  std::uint64_t held = 1;
  std::map<Key, Said> all;
  while (!in.done()) {
    switch (in.below(8)) {
      case 0:
        now += std::chrono::milliseconds(10 * in.byte());
        break;
      case 1:
        now += std::chrono::seconds(in.byte());
        break;
      case 2:
        ++held;
        break;
      default: {
        const PullDesk::Asker asker{std::string("192.0.2.") + std::to_string(in.below(6)),
                                    proto::Bytes(proto::kRunSize, static_cast<char>(in.below(8)))};
        const std::uint64_t number = in.below(held + 2),
                            want = in.flag() ? held : in.below(held + 3);
        const std::string content =
            in.flag() ? "http://" + asker.from + ":" + std::to_string(in.below(3)) : std::string();
        const Key key{asker.from, asker.run};
        const auto verdict = desk.said(asker, number, want, content, held, now);
        Said& said = all[key];
        said.number = number;
        said.content = content;
        check(verdict, all, key, number, want, held);
        if (verdict.pull != Pull::Here) {
          said.until = {};
        } else {
          if (said.until <= now) said.since = now;
          said.until = now + PullDesk::kLease;
        }
      }
    }
    // Who is slow is not waited for.
    std::set<std::string> places;
    for (const auto& [key, said] : all)
      if (said.until > now && now - said.since < PullDesk::kSlow)
        fuzz::require(places.insert(key.first).second, "of one place one pulls here");
  }
  return 0;
}
