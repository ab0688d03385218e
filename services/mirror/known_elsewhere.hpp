// What others still know of a tree that this daemon publishes: for an origin whose state was lost,
// or is an older copy. Asks serve sockets for the sealed update of a version (verb `tree`), those
// that are configured and those that DNS names, and tells what is proven to be this daemon's own
// word from what anybody can say. Loop thread only, but for weigh().
#pragma once

#include "bus/peer/asker.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/sources.hpp"
#include "services/mirror/own_seal.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

// What one of those asked handed back.
struct Claim {
  std::string endpoint;  // who says so
  proto::Bytes frame, credential;
  proto::VersionRecord record;
};

struct Weighed {
  std::optional<Claim> proven;    // the latest that we have sealed ourselves
  std::optional<Claim> unproven;  // the highest that came without the credential that sealed it
  struct Refused {
    std::string endpoint;
    proto::Reject why;
  };
  std::vector<Refused> refused;  // what was no word of ours
};
// Worker threads. By the time in the records, not by number: whoever shows versions of an earlier
// tree of the same name must not win by their height.
Weighed weigh(std::vector<Claim> claims, const OwnSeal& own, const std::string& topic,
              base::Now now);

class KnownElsewhere {
 public:
  // As many are asked, and so long is waited for DNS to say who they are, once.
  static constexpr std::size_t kMostAsked = 16;
  static constexpr base::Duration kDns = std::chrono::seconds(5);

  // `sources` outlives it.
  KnownElsewhere(base::Loop& loop, net::ZmqContext& context, const peer::Settings& settings,
                 const proto::StreamName& name, const peer::Sources& sources);

  struct Question {
    std::string tree, topic;
    std::uint64_t number = 0;  // 0: the newest
    std::string source;        // a serve socket; empty: whoever is known
  };
  // All are asked at once, and `done` is called when all have answered or their time is up; not
  // after our destruction. Nobody to ask: `asked` is 0.
  struct Answers {
    std::size_t asked = 0;
    std::size_t silent = 0;  // of these: no answer
    std::size_t blind = 0;   // of these: it holds no trees at all, as a relay
    std::vector<Claim> claims;
  };
  using Done = std::move_only_function<void(Answers)>;
  void ask(Question question, Done done);

  // For workers; as it is from the start.
  std::shared_ptr<const OwnSeal> own() const { return own_; }

 private:
  std::vector<std::string> endpoints() const;
  void wait_for_dns();
  void ask_now(const Question& question, const std::vector<std::string>& of, Done done);

  base::Loop& loop_;
  const std::vector<std::string> ours_;        // our own serve sockets
  const std::shared_ptr<const OwnSeal> own_;   // shared with jobs on workers
  const peer::Sources& sources_;
  peer::Asker asker_;
  base::MonoTime dns_until_;
  base::Timer dns_;
  std::vector<std::pair<Question, Done>> waiting_;
};

}  // namespace mirrorbus::mirror
