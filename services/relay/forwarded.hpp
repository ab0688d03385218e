// The streams of publishers that can only connect out: they hand over their sealed history by the
// verb "forward"; here it is kept, sent on under their own seals, and answered for. Loop thread
// only. See proto/serve.md.
#pragma once

#include "bus/peer/publisher.hpp"
#include "services/relay/forward_rules.hpp"
#include "services/relay/forwarded_sender.hpp"
#include "services/relay/held_stream.hpp"

#include <map>
#include <memory>
#include <string>

namespace mirrorbus::relay {

struct ForwardedSettings {
  ForwardRules rules;
  Tokens tokens;
  peer::TrustSettings trust;
  std::string folder;  // of the journals; made if it is not there
  base::Duration retain;
  std::uint64_t retain_bytes;  // of each stream
};

class Forwarded {
 public:
  static constexpr std::size_t kMaxStreams = 64;
  static constexpr std::size_t kMaxWaitingBytes = 32 << 20;

  // Adds "forward" to `serve`, and takes over the verbs of streams there: what is not a forwarded
  // stream's goes to `publisher`, on whose socket all is sent. Both outlive this. `on_broken` is
  // told if a journal fails for good: the daemon must end.
  Forwarded(base::Loop& loop, ForwardedSettings settings, peer::ServeServer& serve,
            peer::Publisher& publisher, base::Registry& registry, base::Log log,
            std::function<void(std::exception_ptr)> on_broken);
  ~Forwarded();

  // Other rules and keys; throws before anything has changed.
  void set_rules(ForwardRules rules, Tokens tokens, const peer::TrustSettings& trust);
  // Takes no more.
  void stop() { stopped_ = true; }
  bool idle() const;

 private:
  void forward(const proto::Request& request, const std::string& peer, peer::ServeReply reply);
  std::optional<proto::Reject> may(const std::string& peer, const std::string& token,
                                   const std::string* publisher);
  void credential(const proto::Request& request, const proto::ForwardRequest& what,
                  const std::string& peer, const std::string& token, peer::ServeReply reply);
  void rows(const proto::Request& request, HeldStream& stream, const std::string& peer,
            peer::ServeReply reply);
  void head(const proto::Request& request, HeldStream& stream, const std::string& peer,
            peer::ServeReply reply);
  void refuse(peer::ServeReply& reply, proto::Reject why, std::uint32_t after_ms = 0);

  void judged(const proto::Hash& id, const proto::Decoded<peer::KnownCredential*>& known);
  void keep(const peer::KnownCredential& known);
  void open(const peer::KnownCredential& known);
  void opened(const proto::Hash& id, const proto::StreamName& name, OpenedJournal opened);
  void answer_waiting(const proto::Hash& credential, std::optional<proto::Reject> why);
  void load();

  void equivocated(HeldStream& stream);
  void care();

  void add_verbs(peer::ServeServer& serve);
  void find_credential(const proto::Request& request, peer::ServeReply reply);
  HeldStream* find(const proto::Hash& id);
  std::string file_of(const proto::Hash& id) const;

  base::Loop& loop_;
  ForwardedSettings settings_;
  peer::Publisher& publisher_;
  base::Registry& registry_;
  base::Log log_;
  HeldStream::Handlers handlers_;
  ForwardedTrust trust_;
  HeldStreams streams_;
  ForwardedSender sender_;
  // For what becomes of a credential, by its id.
  std::map<proto::Hash, std::vector<peer::ServeReply>> waiting_;
  std::map<proto::Reject, base::MonoTime> last_logged_;
  bool stopped_ = false;
  base::Timer care_;

  struct Metrics {
    explicit Metrics(base::Registry& registry);
    base::Gauge& streams;
    base::Counter& batches;
    base::Counter& equivocations;
  } metrics_;

  HeldWorkers workers_;
};

}  // namespace mirrorbus::relay
