// A subscription on the bus: the core's driver. Connects to publishers, gets credentials checked by
// gpg, asks for replays, and keeps the cursor. Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/metrics.hpp"
#include "bus/base/pool.hpp"
#include "bus/net/zmq_socket.hpp"
#include "bus/peer/asker.hpp"
#include "bus/peer/credential_checker.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/subscriber_core.hpp"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace mirrorbus::peer {

// The rules of [[trust.allow]]; throws std::runtime_error that names what is wrong.
trust::Policy policy_from(const TrustSettings& trust);

class Subscriber : private SubscriberActions {
 public:
  struct Handlers {
    // Decode the body if it is wanted; Undecodable if that fails.
    std::move_only_function<Outcome(const Delivery&)> on_event;
    std::move_only_function<void(const Gap&)> on_gap;
    // A stream's newest credential, whenever there is a new one; and once more when the stream has
    // been joined: what was published until then comes by no event, what is after it does.
    std::move_only_function<void(const proto::Hash& stream, const proto::Credential&)>
        on_credential;
    // Every verified head of now, old or new: for who must notice another one of himself.
    std::move_only_function<void(const proto::Head&)> on_head;
  };

  // `cursor_file`: where to keep the cursor; empty = nowhere.
  Subscriber(base::Loop& loop, net::ZmqContext& context, SubscriberOptions options,
             const TrustSettings& trust, const std::string& cursor_file, base::Registry& registry,
             base::Log log, Handlers handlers);
  ~Subscriber() override;

  // Publishers and replay sources come and go (discovery, static configuration).
  void add_publisher(const std::string& endpoint);
  void remove_publisher(const std::string& endpoint);
  void set_serve_endpoints(std::vector<std::string> endpoints);

  // Other rules; also re-checks every credential.
  void set_trust(const TrustSettings& trust);

  std::vector<StreamInfo> streams() const { return core_.streams(loop_.now()); }
  const SubscriberCounts& counts() const { return core_.counts(); }
  const proto::Credential* current_credential(const proto::Hash& stream) const {
    return core_.current_credential(stream);
  }
  proto::Decoded<SubscriberCore::Inspected> inspect(proto::ByteView frame,
                                                    const std::optional<proto::Hash>& stream) {
    return core_.inspect(frame, stream, loop_.now());
  }
  const std::set<std::string>& publishers() const { return endpoints_; }
  // Asks those who may hold something of this stream, one at a time: its own publisher where it
  // says it can be asked, then the serve endpoints known. `attempt` counts on from 0 and turns to
  // the next.
  void ask(const proto::Hash& stream, std::uint32_t attempt, const std::string& verb,
           const proto::Map& args, Asker::OnAnswer on_answer);
  std::size_t sources(const proto::Hash& stream) const { return sources_of(stream).size(); }
  // Whom ask() asks, in its order; of a stream that is not known (zero): the serve endpoints known.
  std::vector<std::string> sources_of(const proto::Hash& stream) const;
  // Asks one of them.
  void ask_at(const std::string& source, const std::string& verb, const proto::Map& args,
              Asker::OnAnswer on_answer);
  // A credential that `source` handed on because it was asked: checked like any other.
  void offer_credential(proto::ByteView sealed, const std::string& source);
  // As it was received, to be handed on; only of one that is believed.
  std::optional<proto::Bytes> sealed_credential(const proto::Hash& id) const;
  // Writes the cursor now; for a clean stop.
  void save_cursor();

 private:
  // libzmq connects again by itself, but for a peer that sent what is too large or not ZeroMQ:
  // there it gives up for good, and says so by saying nothing more.
  struct Connection {
    Connection(base::Loop& loop, std::unique_ptr<net::ZmqSocket> s)
        : socket(std::move(s)), given_up(loop) {}
    std::unique_ptr<net::ZmqSocket> socket;
    base::Timer given_up;
  };

  Outcome deliver(const Delivery& event) override { return handlers_.on_event(event); }
  void gap(const Gap& gap) override;
  void check_credential(const KnownCredential& known) override;
  void ask(const Question& question) override;
  void head_heard(const proto::Head& head) override {
    if (handlers_.on_head) handlers_.on_head(head);
  }
  SourceId source_id(const std::string& endpoint);

  void connect(const std::string& endpoint);
  void connection_event(const std::string& endpoint, net::ZmqEvent::Kind kind);
  void tick();
  void tell_joined();
  void watch_keyring();
  void export_counts();

  base::Loop& loop_;
  net::ZmqContext& context_;
  base::Registry& registry_;
  base::Log log_;
  Handlers handlers_;
  std::unique_ptr<store::CursorStore> cursor_store_;
  store::Cursors saved_;
  SubscriberCore core_;
  Asker asker_;

  std::set<std::string> endpoints_;
  std::map<std::string, Connection> connections_;
  std::map<std::string, SourceId> source_ids_;  // of every endpoint ever heard or asked
  std::vector<std::string> serve_endpoints_;
  SubscriberCounts exported_;
  std::set<proto::Hash> joined_;
  std::map<proto::Reject, base::MonoTime> last_logged_;
  int ticks_ = 0;
  bool saving_ = false;

  base::Timer tick_;
  CredentialChecker checker_;
  base::WorkerPool cursor_writer_;  // of its own: gpg may hang
};

}  // namespace mirrorbus::peer
