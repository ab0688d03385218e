#include "bus/peer/publisher_core.hpp"

#include "proto/event.hpp"
#include "proto/limits.hpp"
#include "proto/merkle.hpp"
#include "proto/sha256.hpp"

#include <algorithm>
#include <cassert>

namespace mirrorbus::peer {
namespace {
// While full batches keep coming, the journal may commit several at once.
constexpr std::size_t kMaxInFlight = 32;
constexpr std::size_t kSinceBeats = 8;
constexpr std::size_t kRememberedHeads = 600;  // longer than any clock may be off
// Of an event beside its body: version, flags, seq, time, base, levels, and the back-pointers.
constexpr std::size_t kEventOverhead = 20 + 10 * proto::kMaxTopicSegments;
}  // namespace

std::string_view to_string(PublishError error) noexcept {
  switch (error) {
    case PublishError::Full:
      return "full";
    case PublishError::BadTopic:
      return "bad_topic";
    case PublishError::OutOfScope:
      return "out_of_scope";
    case PublishError::TooLarge:
      return "too_large";
    case PublishError::NotReady:
      return "not_ready";
  }
  return "unknown";
}

PublisherCore::PublisherCore(PublisherOptions options, const proto::Hash& stream,
                             const store::Tail& tail, std::uint64_t epoch)
    : options_(std::move(options)),
      base_segments_(static_cast<std::uint8_t>(proto::segment_count(options_.base))),
      stream_(stream),
      epoch_(epoch),
      pin_{tail.epoch, tail.number, tail.last_seq, tail.header},
      prefixes_(base_segments_, tail.last_seq),
      tokens_(options_.signature_burst),
      sealed_seq_(tail.last_seq),
      sealed_header_(tail.header),
      durable_seq_(tail.last_seq),
      durable_header_(tail.header),
      beat_lasts_{tail.last_seq} {
  assert(epoch > tail.epoch);
}

void PublisherCore::use_credential(const proto::Credential& credential, const proto::Hash& id,
                                   trust::SessionKey key) {
  assert(credential.epoch == epoch_);
  credential_ = credential;
  credential_id_ = id;
  key_ = std::move(key);
  scopes_.clear();
  checked_topic_.reset();
  for (const std::string& scope : credential.scopes)
    if (auto pattern = proto::TopicPattern::parse(scope)) scopes_.push_back(std::move(*pattern));
}

bool PublisherCore::ready(base::Now now) const {
  return credential_ && base::to_ns(now.wall + options_.end_margin) < credential_->not_after_ns &&
         base::to_ns(now.wall) >= credential_->not_before_ns;
}

std::expected<std::uint64_t, PublishError> PublisherCore::publish(
    proto::ByteView topic, proto::Bytes body, base::Now now,
    std::optional<store::SubmissionRecord> submission) {
  if (!ready(now)) return std::unexpected(PublishError::NotReady);
  if (!checked_topic_ || topic != *checked_topic_) {
    if (!proto::valid_topic(topic) || !proto::is_under(topic, options_.base) || topic == options_.base)
      return std::unexpected(PublishError::BadTopic);
    if (!proto::matches_any(scopes_, topic)) return std::unexpected(PublishError::OutOfScope);
    checked_topic_ = std::make_shared<const std::string>(topic);
  }
  if (body.size() + kEventOverhead > proto::kMaxEventSize)
    return std::unexpected(PublishError::TooLarge);
  Waiting event{checked_topic_, std::move(body), next_ticket_, std::move(submission)};
  if (waiting_bytes_ + event.cost() > options_.max_waiting_bytes)
    return std::unexpected(PublishError::Full);
  waiting_bytes_ += event.cost();
  waiting_.push_back(std::move(event));
  return next_ticket_++;
}

bool PublisherCore::full_batch() const {
  return waiting_.size() >= proto::kMaxBatchEvents || waiting_bytes_ >= proto::kMaxBatchBytes;
}

void PublisherCore::refill(base::MonoTime now) {
  if (refilled_ == base::MonoTime{}) refilled_ = now;
  const double seconds = std::chrono::duration<double>(now - refilled_).count();
  tokens_ = std::min(options_.signature_burst, tokens_ + seconds * options_.signatures_per_second);
  refilled_ = now;
}

std::optional<base::MonoTime> PublisherCore::wake(base::Now now) const {
  if (waiting_.empty() || in_flight_ > 0 || !ready(now)) return std::nullopt;
  if (tokens_ >= 1) return now.mono;
  return refilled_ + std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(
                         (1 - tokens_) / options_.signatures_per_second));
}

proto::ByteView SealedBatch::topic(std::size_t i) const {
  return proto::ByteView(row.bytes).substr(items[i].at.topic, items[i].topic_size);
}

proto::EventFrame SealedBatch::frame(std::size_t i) const {
  const Item& item = items[i];
  const proto::ByteView bytes = row.bytes, all = paths;
  const std::size_t path_end = i + 1 < items.size() ? items[i + 1].path_at : all.size();
  return {topic(i), bytes.substr(0, proto::kSealedHeaderSize),
          all.substr(item.path_at, path_end - item.path_at),
          bytes.substr(item.at.event, item.event_size)};
}

std::optional<SealedBatch> PublisherCore::next_batch(base::Now now) {
  if (waiting_.empty() || !ready(now)) return std::nullopt;
  refill(now.mono);
  if (full_batch()) {
    if (in_flight_ >= kMaxInFlight) return std::nullopt;
  } else {
    if (in_flight_ > 0 || tokens_ < 1) return std::nullopt;
    tokens_ -= 1;
  }

  SealedBatch batch;
  store::JournalRow& row = batch.row;
  row.epoch = epoch_;
  row.number = sealed_batch_ + 1;
  row.first_seq = sealed_seq_ + 1;
  // Times never go back within an epoch, whatever the clock does.
  last_time_ns_ = std::max(last_time_ns_, base::to_ns(now.wall));
  row.time_ns = last_time_ns_;

  const std::size_t most = std::min(waiting_.size(), proto::kMaxBatchEvents);
  std::vector<proto::Hash> leaves;
  leaves.reserve(most);
  batch.items.reserve(most);
  row.bytes.reserve(proto::kSealedHeaderSize + std::min(waiting_bytes_, proto::kMaxBatchBytes));
  row.bytes.resize(proto::kSealedHeaderSize);  // written when the root is known
  std::size_t bytes = 0;
  while (!waiting_.empty() && batch.items.size() < proto::kMaxBatchEvents) {
    Waiting& next = waiting_.front();
    if (!batch.items.empty() && bytes + next.cost() > proto::kMaxBatchBytes) break;
    bytes += next.cost();
    waiting_bytes_ -= next.cost();
    const std::uint64_t seq = ++sealed_seq_;
    event_.clear();
    proto::append_event(event_, seq, last_time_ns_, base_segments_,
                        prefixes_.publish(*next.topic, seq), next.body);
    leaves.push_back(proto::event_leaf(*next.topic, event_));
    const proto::RowItemAt at = proto::append_row_item(row.bytes, *next.topic, event_);
    batch.items.push_back({at, static_cast<std::uint32_t>(next.topic->size()),
                           static_cast<std::uint32_t>(event_.size()), 0, next.ticket});
    if (next.submission) {
      next.submission->seq = seq;
      row.submissions.push_back(std::move(*next.submission));
    }
    waiting_.pop_front();
  }
  row.last_seq = sealed_seq_;

  const proto::MerkleTree tree(std::move(leaves));
  proto::BatchHeader header;
  header.credential = credential_id_;
  header.epoch = epoch_;
  header.number = row.number;
  header.first_seq = row.first_seq;
  header.count = static_cast<std::uint16_t>(batch.items.size());
  header.time_ns = row.time_ns;
  header.root = tree.root();
  header.previous = sealed_header_;
  proto::Bytes sealed;
  proto::append_header(sealed, header);
  row.header = proto::header_hash(sealed);
  const trust::Seal seal = key_->sign(sealed);
  sealed.append(seal.data(), seal.size());
  row.bytes.replace(0, sealed.size(), sealed);

  batch.paths.reserve(batch.items.size() * tree.path_nodes(0) * proto::Hash::kSize);
  for (std::size_t i = 0; i < batch.items.size(); ++i) {
    batch.items[i].path_at = static_cast<std::uint32_t>(batch.paths.size());
    tree.append_path(batch.paths, i);
  }
  sealed_batch_ = row.number;
  sealed_header_ = row.header;
  ++in_flight_;
  return batch;
}

void PublisherCore::durable(const SealedBatch& batch) {
  const store::JournalRow& row = batch.row;
  assert(in_flight_ > 0 && row.first_seq == durable_seq_ + 1);
  --in_flight_;
  durable_seq_ = row.last_seq;
  durable_batch_ = row.number;
  durable_header_ = row.header;
  pin_ = {row.epoch, row.number, row.last_seq, row.header};
  for (std::size_t i = 0; i < batch.items.size(); ++i)
    recent_.add(batch.topic(i), row.first_seq + i);
}

std::optional<proto::Bytes> PublisherCore::head(base::Now now, std::uint64_t oldest) {
  if (!credential_ || !key_ || base::to_ns(now.wall) > credential_->not_after_ns) return std::nullopt;
  proto::Head head;
  head.stream = stream_;
  head.credential = credential_id_;
  head.epoch = epoch_;
  head.beat = ++beat_;
  head.time_ns = base::to_ns(now.wall);
  head.next_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.beat).count());
  head.last = durable_seq_;
  head.since = beat_lasts_.front();
  head.oldest = std::min(oldest, durable_seq_ + 1);
  head.batch = durable_batch_;
  head.header = durable_header_;
  head.pairs = recent_.since(head.since);
  beat_lasts_.push_back(durable_seq_);
  if (beat_lasts_.size() > kSinceBeats) beat_lasts_.pop_front();
  proto::Bytes sealed = proto::encode_head(head);
  sent_heads_.push_back(proto::sha256(sealed));
  if (sent_heads_.size() > kRememberedHeads) sent_heads_.pop_front();
  const trust::Seal seal = key_->sign(sealed);
  sealed.append(seal.data(), seal.size());
  return sealed;
}

bool PublisherCore::of_another(const proto::Head& head) const {
  if (head.stream != stream_ || head.epoch < epoch_) return false;
  if (head.epoch > epoch_ || head.beat > beat_) return true;
  const std::uint64_t ago = beat_ - head.beat;
  return ago < sent_heads_.size() &&
         sent_heads_[sent_heads_.size() - 1 - ago] != proto::sha256(proto::encode_head(head));
}

}  // namespace mirrorbus::peer
