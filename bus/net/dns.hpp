// Asking DNS, with the times answers hold. Loop thread only. What DNS says is a hint about where to
// look; who is there is for signatures to say.
#pragma once

#include "bus/base/loop.hpp"
#include "bus/net/srv.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace mirrorbus::net {

enum class DnsStatus {
  Ok,
  NoData,    // the name exists, without such records
  NxDomain,  // there is no such name
  Failed,    // nobody answered, or nothing usable: says nothing about the name
};

struct SrvAnswer {
  DnsStatus status = DnsStatus::Failed;
  std::vector<SrvRecord> records;  // in the answer's order
  base::Duration ttl{};            // of the answer, positive or negative; zero if none was given
  std::string error;               // Failed: why
};

struct HostAnswer {
  DnsStatus status = DnsStatus::Failed;
  std::vector<std::string> addresses;
  base::Duration ttl{};
  std::string error;
};

class Resolver {
 public:
  virtual ~Resolver() = default;
  // Names are absolute: no search list applies. `done` is called later, once, on the loop; not
  // after the resolver's destruction.
  virtual void resolve_srv(const std::string& name,
                           std::move_only_function<void(SrvAnswer)> done) = 0;
  virtual void resolve_host(const std::string& name,
                            std::move_only_function<void(HostAnswer)> done) = 0;
};

// c-ares.
class DnsResolver final : public Resolver {
 public:
  struct Options {
    // "127.0.0.1:15353", "::1"; empty: those of /etc/resolv.conf, read anew when it changes.
    std::vector<std::string> servers;
    base::Duration timeout = std::chrono::seconds(2);  // of one try
    int tries = 3;
  };
  // Throws std::runtime_error if a server is not an address.
  DnsResolver(base::Loop& loop, Options options);
  ~DnsResolver() override;

  void resolve_srv(const std::string& name, std::move_only_function<void(SrvAnswer)> done) override;
  // Looks into /etc/hosts first.
  void resolve_host(const std::string& name,
                    std::move_only_function<void(HostAnswer)> done) override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with results on their way
};

}  // namespace mirrorbus::net
