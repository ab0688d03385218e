// Looks at a bus from outside, in a time that is given: asks DNS, connects to every publisher,
// hears its credential and a head, asks whoever serves its history. Loop thread only.
#pragma once

#include "bus/base/pool.hpp"
#include "bus/net/zmq_socket.hpp"
#include "bus/peer/asker.hpp"
#include "bus/trust/openpgp.hpp"
#include "tools/check_judges.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tools {

class BusChecker {
 public:
  // `on_done` is called once, when all is found or the time is over.
  BusChecker(base::Loop& loop, net::ZmqContext& context, const peer::Settings& settings,
             base::Duration timeout, base::Task on_done);
  ~BusChecker();

  void start();
  // By check, then by what was looked at.
  std::vector<Finding> findings() const;

 private:
  using Late = std::function<void()>;
  enum class Belief { Checking, Trusted, Refused, NobodyToAsk };
  struct Stream {
    explicit Stream(base::Loop& loop) : again(loop) {}
    proto::Hash credential_id;
    proto::Credential credential;
    Belief belief = Belief::Checking;
    std::optional<peer::CredentialBook> book;  // of this one credential
    std::optional<proto::Head> head;
    std::string server;  // who is asked about its sequences; empty: not yet known
    ServedRange served;
    std::optional<RangeReader> range;
    base::Timer again;
  };

  // Something is being looked at; `late` says so if it is not closed in its time. Opened once more
  // it gets a new time.
  void open(const std::string& matter, base::Duration patience, Late late);
  void close(const std::string& matter);
  void end_if_nothing_is_open();

  void find(Grade grade, Check check, std::string subject, std::string text);
  void ask_dns(SrvKind kind, const std::string& domain);
  void add_static(SrvKind kind, const std::string& endpoint);
  void add(SrvKind kind, const std::string& endpoint);
  void add_publisher(const std::string& endpoint);
  void add_server(const std::string& endpoint);

  void connection(const std::string& endpoint, net::ZmqEvent::Kind kind);
  void hear(const std::string& endpoint, proto::ByteView frame);
  void hear_credential(const std::string& endpoint, const proto::ControlFrame& frame);
  void hear_head(const proto::ControlFrame& frame);
  void check_key(const proto::Hash& id, const proto::SealedCredential& sealed);
  void judge_key(const proto::Hash& id, const proto::Hash& credential,
                 const proto::Decoded<peer::CredentialVerdict>& verdict);
  void refused(const proto::Hash& id, proto::Reject why);

  void look_at_sequences(const proto::Hash& id);
  bool choose_server(const proto::Hash& id);
  void read_range(const proto::Hash& id);
  void range_answered(const proto::Hash& id, const proto::Decoded<proto::Answer>& answer);
  void sequences_found(const proto::Hash& id);
  void ask(const std::string& endpoint, const std::string& verb, const proto::Map& args,
           peer::Asker::OnAnswer on_answer);

  base::Loop& loop_;
  net::ZmqContext& context_;
  const peer::Settings settings_;
  const base::MonoTime begin_, deadline_;
  const base::Duration patience_;  // with one answer
  base::Task on_done_;
  std::vector<Finding> findings_;
  std::map<std::string, std::unique_ptr<base::Timer>> matters_;
  std::unique_ptr<net::Resolver> resolver_;
  peer::Asker asker_;
  std::map<std::string, std::unique_ptr<net::ZmqSocket>> publishers_;  // by endpoint
  std::map<std::string, std::optional<proto::Hash>> servers_;          // which stream they hold
  std::map<proto::Hash, std::unique_ptr<Stream>> streams_;
  base::WorkerPool verifier_;
};

}  // namespace mirrorbus::tools
