// Which publishers and replay sources there are, from SRV records and static configuration: pure,
// told the answers and the time. Discovery (discovery.hpp) drives it.
//
//   _mirrorbus._tcp.<domain>        every publisher: connect to all of them
//   _mirrorbus-serve._tcp.<domain>  replay sources, in RFC 2782 order
//
// An answer is refreshed at 0.8 to 1.0 of its TTL, between 2 s and 1 h. What fails to be answered
// changes nothing; "there is none", said of what was there before, is believed when said twice.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/net/dns.hpp"
#include "bus/net/srv.hpp"

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mirrorbus::net {

struct StaticSource {
  std::string publish;
  std::string serve;  // either may be empty
  bool operator==(const StaticSource&) const = default;
};

struct DiscoveryOptions {
  std::vector<std::string> domains;
  std::vector<StaticSource> fixed;
};

class DiscoveryCore {
 public:
  struct Query {
    enum class Kind { Publishers, Sources, Host };  // the first two are SRV
    Kind kind;
    std::string name;
    auto operator<=>(const Query&) const = default;
    // What a domain's SRV records of this kind stand under.
    static Query srv(Kind kind, const std::string& domain);
  };
  // What became of a question, for people.
  struct Info {
    Query query;
    bool answered = false;                 // ever
    DnsStatus status = DnsStatus::Failed;  // last time
    std::string error;
    std::size_t records = 0;  // held, perhaps from before
    bool stale = false;       // held although the last answer did not give them
  };

  // What an answer left behind, to be kept over a restart.
  struct Held {
    Query query;
    std::vector<SrvRecord> records;
    std::vector<std::string> addresses;  // Host
    bool operator==(const Held&) const = default;
  };

  // Static endpoints must parse; host names in them are resolved like SRV targets.
  DiscoveryCore(DiscoveryOptions options, RandomUpTo random);
  // Others; what stays keeps its answers.
  void set_options(DiscoveryOptions options);

  // What was held before a restart: good until DNS says otherwise, as if it had just failed to. Of
  // questions that are not asked any more, and what no answer could hold, is passed over.
  void remember(std::vector<Held> held);
  std::vector<Held> held() const;

  // The questions to ask now. Each is answered() before it comes again.
  std::vector<Query> due(base::MonoTime now);
  // When due() will have something, as far as is known.
  std::optional<base::MonoTime> next() const;
  void answered(const Query& query, SrvAnswer answer, base::MonoTime now);
  void answered(const Query& query, HostAnswer answer, base::MonoTime now);

  // Literal endpoints, each once.
  const std::set<std::string>& publishers() const { return publishers_; }
  const std::vector<std::string>& sources() const { return sources_; }  // first choice first
  bool settled() const;  // every question has been answered or has failed once
  std::vector<Info> infos() const;

 private:
  struct Lookup {
    bool asking = false;
    bool answered = false;
    base::MonoTime due{};
    int failures = 0;   // in a row
    int negatives = 0;  // in a row
    DnsStatus status = DnsStatus::Failed;
    std::string error;
    std::vector<SrvRecord> records;      // the last good ones, ordered
    std::vector<std::string> addresses;  // Host
    bool stale() const { return (failures > 0 || negatives > 0) && held() > 0; }
    std::size_t held() const { return records.size() + addresses.size(); }
  };
  template <class Answer>
  bool take(Lookup& lookup, const Answer& answer, base::MonoTime now);
  base::Duration jittered(base::Duration duration);
  void combine();

  DiscoveryOptions options_;
  RandomUpTo random_;
  std::map<Query, Lookup> lookups_;
  std::set<std::string> publishers_;
  std::vector<std::string> sources_;
};

}  // namespace mirrorbus::net
