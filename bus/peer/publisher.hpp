// A publisher on the bus: the core's driver. Keeps the journal, gets credentials signed, sends what
// is durable, beats, and answers replay. Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/metrics.hpp"
#include "bus/base/pool.hpp"
#include "bus/net/zmq_socket.hpp"
#include "bus/peer/forwarder.hpp"
#include "bus/peer/publisher_core.hpp"
#include "bus/peer/serve_server.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/stream_verbs.hpp"
#include "bus/store/sqlite_journal.hpp"

#include <expected>
#include <functional>
#include <unordered_map>

namespace mirrorbus::peer {

class Publisher {
 public:
  // Where an event stands once it is durable.
  struct Position {
    std::uint64_t epoch;
    std::uint64_t seq;
    proto::ByteView frame;  // as it is sent: sealed, provable by itself; valid during the call
  };
  using OnDurable = std::move_only_function<void(const Position&)>;

  // Binds [bus] publish, adds the stream's verbs to `serve`, opens the journal in [bus] state, and
  // asks for the first credential. `content` is the content listener's URL, if there is one.
  // `on_broken` is told once if the journal or the signing key fail for good: the daemon must end.
  Publisher(base::Loop& loop, net::ZmqContext& context, const Settings& settings,
            ServeServer& serve, const std::string& serve_endpoint, const std::string& content,
            base::Registry& registry, base::Log log,
            std::move_only_function<void(std::exception_ptr)> on_broken);
  ~Publisher();

  const proto::StreamName& name() const { return name_; }
  const proto::Hash& stream() const { return stream_; }
  std::uint64_t epoch() const { return core_->epoch(); }
  const std::string& endpoint() const { return endpoint_; }  // where it is bound
  bool ready() const { return !duplicate_ && core_->ready(loop_.now()); }
  // Why nothing that is published now becomes durable, for /readyz; nothing if all is well.
  std::optional<std::string> problem() const;
  void on_ready(base::Task task);  // once, when the first credential is in use

  // `body` is a msgpack map. `on_durable` runs when the event is in the journal, before it is sent.
  std::expected<void, PublishError> publish(proto::ByteView topic, proto::Bytes body,
                                            OnDurable on_durable = nullptr,
                                            std::optional<store::SubmissionRecord> submission = {});
  std::expected<void, PublishError> publish(proto::ByteView topic, const proto::Value& body,
                                            OnDurable on_durable = nullptr) {
    return publish(topic, proto::pack(body), std::move(on_durable));
  }
  // What a submission became, if it is in the journal. The answer comes on the loop.
  void find_submission(proto::Bytes sender, std::uint64_t n,
                       std::move_only_function<void(std::optional<std::uint64_t> seq)> done);

  // A verified head was heard, of whatever stream. If another publisher of our key and name sent
  // it, publishing stops here and `on_broken` is told: two of one identity contradict each other.
  void heard(const proto::Head& head);

  // A question about our stream, of whatever verb of StreamVerbs, from elsewhere than our own serve
  // socket's.
  void answer(const proto::Request& request, ServeReply reply);
  // Sends a frame that another has sealed, as it is.
  void pass_on(proto::ByteView frame) { socket_.send(frame); }
  void pass_on(net::ZmqFrame&& frame) { socket_.send(std::move(frame)); }
  // Each time that a subscriber has come.
  void on_subscriber(base::Task task) { on_subscriber_ = std::move(task); }

  // Nothing waits and nothing is under way.
  bool idle() const { return core_->idle() && journalling_.empty(); }
  // Each relay of [bus] forward that takes what we have has it all.
  bool handed_over() const;

 private:
  struct Signed;
  void get_credential();
  void use_credential(Signed made);
  void pump();
  void journal_next();
  std::vector<SealedBatch> take_back();
  void journalled(std::vector<SealedBatch> batches);
  void beat();
  void greet();
  void send_head();
  void announce();
  void checkpoint();
  void care();
  void tell_of_damage();
  void broken(std::exception_ptr error);
  void add_verbs(ServeServer& serve);

  base::Loop& loop_;
  const Settings settings_;
  base::Log log_;
  std::move_only_function<void(std::exception_ptr)> on_broken_;
  proto::StreamName name_;
  proto::Hash stream_;

  std::unique_ptr<store::Journal> journal_;
  store::SqliteJournal* sqlite_ = nullptr;  // the same, if it is durable
  store::Tail start_tail_;
  StreamVerbs verbs_;
  std::unique_ptr<PublisherCore> core_;
  std::uint32_t next_serial_ = 0;
  std::uint64_t oldest_ = 0;
  proto::Bytes announcement_;  // the credential's control frame

  net::ZmqSocket socket_;
  std::string endpoint_;
  std::vector<proto::Endpoint> advertised_;

  std::deque<SealedBatch> sealed_;         // to be journalled
  std::vector<SealedBatch> journalling_;   // without their rows, which are …
  std::vector<store::JournalRow> rows_;    // … with the worker, or waiting for disk space
  std::unordered_map<std::uint64_t, OnDurable> waiting_;  // by ticket
  base::Task on_ready_, on_subscriber_;
  bool duplicate_ = false;  // there is another one of us
  std::uint64_t damaged_told_ = 0;
  bool disk_full_ = false;  // the last commit found no space; it is tried again

  base::Later pump_;  // events published in one go make one batch
  base::Timer greet_;
  base::Timer wake_, beat_, announce_, renew_, care_, retry_;
  struct Metrics {
    explicit Metrics(base::Registry& registry);
    base::Counter& events;
    base::Counter& batches;
    base::Counter& disk_full;
    base::Counter& duplicates;
    base::Counter& damaged;
    base::Gauge& last_seq;
    base::Gauge& credential_not_after;
  } metrics_;

  base::WorkerPool signer_;   // gpg
  base::WorkerPool writer_;   // the journal's writing thread
  base::WorkerPool reader_;   // the journal's reading thread, and checkpoints
  std::vector<std::unique_ptr<Forwarder>> forwarders_;  // read there
};

}  // namespace mirrorbus::peer
