#include "bus/net/dns.hpp"

#include "bus/net/dns_message.hpp"
#include "bus/net/endpoint.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>

#include <ares.h>
#include <arpa/inet.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

namespace mirrorbus::net {
namespace {

constexpr int kClassIn = 1, kTypeSrv = 33;
constexpr const char* kResolvConf = "/etc/resolv.conf";

// When the file was last written; zero if it cannot be seen.
timespec changed(const char* path) {
  struct stat info {};
  return ::stat(path, &info) == 0 ? info.st_mtim : timespec{};
}

std::optional<std::string> literal(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN];
  const void* bytes = nullptr;
  if (address->sa_family == AF_INET)
    bytes = &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  else if (address->sa_family == AF_INET6)
    bytes = &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  if (!bytes || !::inet_ntop(address->sa_family, bytes, text, sizeof text)) return std::nullopt;
  return text;
}

HostAnswer host_answer(int status, const ares_addrinfo* found) {
  HostAnswer answer;
  switch (status) {
    case ARES_SUCCESS: break;
    case ARES_ENOTFOUND: answer.status = DnsStatus::NxDomain; return answer;
    case ARES_ENODATA: answer.status = DnsStatus::NoData; return answer;
    default: answer.error = ares_strerror(status); return answer;
  }
  std::optional<int> ttl;
  for (const ares_addrinfo_node* node = found->nodes; node; node = node->ai_next) {
    auto address = literal(node->ai_addr);
    if (!address || std::ranges::find(answer.addresses, *address) != answer.addresses.end())
      continue;
    answer.addresses.push_back(std::move(*address));
    ttl = std::min(ttl.value_or(node->ai_ttl), node->ai_ttl);
  }
  answer.status = answer.addresses.empty() ? DnsStatus::NoData : DnsStatus::Ok;
  answer.ttl = std::chrono::seconds(std::max(0, ttl.value_or(0)));
  return answer;
}

SrvAnswer srv_answer(int status, proto::ByteView bytes) {
  SrvAnswer answer;
  // c-ares hands the raw reply over in these three cases.
  if (status != ARES_SUCCESS && status != ARES_ENODATA && status != ARES_ENOTFOUND) {
    answer.error = ares_strerror(status);
    return answer;
  }
  auto reply = parse_srv_reply(bytes);
  if (!reply) {
    answer.error = fmt::format("malformed reply: {}", proto::to_string(reply.error()));
    return answer;
  }
  if (!reply->records.empty()) {
    answer.status = DnsStatus::Ok;
    answer.records = std::move(reply->records);
    answer.ttl = std::chrono::seconds(reply->ttl_s);
  } else {
    answer.status = status == ARES_ENOTFOUND ? DnsStatus::NxDomain : DnsStatus::NoData;
    answer.ttl = std::chrono::seconds(reply->negative_ttl_s.value_or(0));
  }
  return answer;
}

}  // namespace

struct DnsResolver::State : std::enable_shared_from_this<State> {
  State(base::Loop& l, Options o) : loop(l), options(std::move(o)), timer(l) { open(); }

  base::Loop& loop;
  const Options options;
  base::Timer timer;
  ares_channel channel = nullptr;
  std::map<ares_socket_t, base::FdWatch> watches;
  std::size_t pending = 0;
  bool closed = false;
  timespec conf_changed{};

  void open() {
    ares_options native{};
    native.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_EDNS;
    native.ednspsz = 1232;
    native.timeout =
        static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(options.timeout).count());
    native.tries = options.tries;
    native.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<State*>(self)->socket_state(fd, readable != 0, writable != 0);
    };
    native.sock_state_cb_data = this;
    char lookups[] = "fb";  // /etc/hosts first, whatever the system's order is
    native.lookups = lookups;
    const int mask = ARES_OPT_FLAGS | ARES_OPT_LOOKUPS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS |
                     ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    conf_changed = changed(kResolvConf);
    if (const int status = ares_init_options(&channel, &native, mask); status != ARES_SUCCESS)
      throw std::runtime_error(fmt::format("starting the resolver: {}", ares_strerror(status)));
    if (options.servers.empty()) return;
    const std::string list = fmt::format("{}", fmt::join(options.servers, ","));
    if (const int status = ares_set_servers_ports_csv(channel, list.c_str());
        status != ARES_SUCCESS) {
      ares_destroy(channel);
      throw std::runtime_error(fmt::format("DNS servers {}: {}", list, ares_strerror(status)));
    }
  }

  void close() {
    closed = true;
    timer.cancel();
    ares_destroy(channel);  // calls back for all that is under way
    watches.clear();
  }

  // c-ares reads its configuration only at the start.
  void follow_configuration() {
    if (!options.servers.empty() || pending > 0) return;
    const timespec now = changed(kResolvConf);
    if (now.tv_sec == conf_changed.tv_sec && now.tv_nsec == conf_changed.tv_nsec) return;
    ares_destroy(channel);
    watches.clear();
    open();
  }

  void socket_state(ares_socket_t fd, bool readable, bool writable) {
    if (!readable && !writable) {  // about to be closed, by c-ares
      watches.erase(fd);
      return;
    }
    auto it = watches.find(fd);
    if (it == watches.end())
      it = watches
               .try_emplace(fd, loop, fd,
                            [this, fd](bool r, bool w) {
                              process(r ? fd : ARES_SOCKET_BAD, w ? fd : ARES_SOCKET_BAD);
                            })
               .first;
    it->second.want(readable, writable);
  }

  void process(ares_socket_t readable, ares_socket_t writable) {
    ares_process_fd(channel, readable, writable);
    start_timer();
  }

  void start_timer() {
    timeval room{};
    const timeval* const left = ares_timeout(channel, nullptr, &room);
    if (!left) return timer.cancel();
    timer.start(std::chrono::seconds(left->tv_sec) + std::chrono::microseconds(left->tv_usec),
                [this] { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); });
  }

  // Results go by way of the loop: c-ares must not be called, or destroyed, by what it calls.
  template <class Answer, class Done>
  void deliver(Answer answer, Done done) {
    --pending;
    if (closed) return;
    loop.post(
        [weak = weak_from_this(), answer = std::move(answer), done = std::move(done)]() mutable {
          const auto self = weak.lock();
          if (self && !self->closed) done(std::move(answer));
        });
  }

  using HostDone = std::move_only_function<void(HostAnswer)>;
  void host(const std::string& name, HostDone done) {
    struct Query {
      State& state;
      HostDone done;
    };
    ++pending;
    // c-ares 1.18 asks DNS about addresses in numbers.
    if (is_literal_address(name))
      return deliver(HostAnswer{DnsStatus::Ok, {name}, {}, ""}, std::move(done));
    // RFC 6761, 6.3: no server is asked about these; and not every root has an /etc/hosts.
    if (name == "localhost" || name.ends_with(".localhost"))
      return deliver(HostAnswer{DnsStatus::Ok, {"127.0.0.1", "::1"}, {}, ""}, std::move(done));
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_flags = ARES_AI_NOSORT;
    const auto callback = [](void* argument, int status, int, ares_addrinfo* found) {
      const std::unique_ptr<Query> query(static_cast<Query*>(argument));
      HostAnswer answer = host_answer(status, found);
      if (found) ares_freeaddrinfo(found);
      query->state.deliver(std::move(answer), std::move(query->done));
    };
    ares_getaddrinfo(channel, name.c_str(), nullptr, &hints, callback,
                     new Query{*this, std::move(done)});
    start_timer();
  }

  using SrvDone = std::move_only_function<void(SrvAnswer)>;
  void srv(const std::string& name, SrvDone done) {
    struct Query {
      State& state;
      SrvDone done;
    };
    ++pending;
    const auto callback = [](void* argument, int status, int, unsigned char* bytes, int size) {
      const std::unique_ptr<Query> query(static_cast<Query*>(argument));
      const proto::ByteView view(reinterpret_cast<const char*>(bytes),
                                 bytes ? static_cast<std::size_t>(size) : 0);
      query->state.deliver(srv_answer(status, view), std::move(query->done));
    };
    ares_query(channel, name.c_str(), kClassIn, kTypeSrv, callback,
               new Query{*this, std::move(done)});
    start_timer();
  }
};

DnsResolver::DnsResolver(base::Loop& loop, Options options)
    : state_(std::make_shared<State>(loop, std::move(options))) {}

DnsResolver::~DnsResolver() { state_->close(); }

void DnsResolver::resolve_host(const std::string& name,
                               std::move_only_function<void(HostAnswer)> done) {
  state_->follow_configuration();
  state_->host(name, std::move(done));
}

namespace {

// An SRV answer that waits for the addresses of its targets.
struct Gathering {
  SrvAnswer answer;
  std::move_only_function<void(SrvAnswer)> done;
  std::size_t missing = 0;

  void add(const std::string& target, const HostAnswer& host) {
    for (SrvRecord& record : answer.records) {
      if (record.target != target) continue;
      record.addresses = host.addresses;
      record.resolved = host.status != DnsStatus::Failed;
    }
    // Zero is what /etc/hosts says.
    if (host.status == DnsStatus::Ok && host.ttl > base::Duration::zero())
      answer.ttl = std::min(answer.ttl, host.ttl);
    if (--missing == 0) done(std::move(answer));
  }
};

}  // namespace

void DnsResolver::resolve_srv(const std::string& name,
                              std::move_only_function<void(SrvAnswer)> done) {
  state_->follow_configuration();
  // The inner lambda runs only while `state` lives: see deliver().
  state_->srv(name, [state = state_.get(), done = std::move(done)](SrvAnswer answer) mutable {
    std::vector<std::string> targets;
    for (const SrvRecord& record : answer.records)
      if (record.target != "." && std::ranges::find(targets, record.target) == targets.end())
        targets.push_back(record.target);
    if (targets.empty()) return done(std::move(answer));
    // Shared by the questions for its targets.
    const auto gathering = std::make_shared<Gathering>(std::move(answer), std::move(done));
    gathering->missing = targets.size();
    for (const std::string& target : targets)
      state->host(target,
                  [gathering, target](const HostAnswer& host) { gathering->add(target, host); });
  });
}

}  // namespace mirrorbus::net
