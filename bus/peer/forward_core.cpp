#include "bus/peer/forward_core.hpp"

#include "proto/batch.hpp"
#include "proto/limits.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

using What = ForwardRead::What;
constexpr std::size_t kFirstsAtOnce = 64;
constexpr std::uint32_t kMostPauseMs = 60'000;

}  // namespace

ForwardFound forward_read(store::Journal& journal, const ForwardRead& read) {
  ForwardFound found;
  const store::Tail tail = journal.tail();
  found.oldest = tail.oldest_seq;
  found.last = tail.last_seq;
  switch (read.what) {
    case What::Match:
      if (read.seq > 0 && read.seq <= tail.last_seq) {
        const auto at = journal.read({read.seq, read.seq, "", 1});
        for (const proto::Bytes& bytes : at.rows) {
          const auto row = proto::decode_row(bytes);
          if (row && proto::decode_header(row->header())->last_seq() == read.seq)
            found.header = proto::header_hash(row->header());
        }
      }
      found.credentials = journal.first_credentials_after(read.epoch, 1);
      break;
    case What::Rows: {
      auto& rows = found.rows;
      rows = journal
                 .read({read.seq, tail.last_seq, "", ForwardCore::kRequestBytes,
                        ForwardCore::kRequestBytes})
                 .rows;
      const auto bad = std::ranges::find_if_not(rows, proto::is_sound_row);
      found.damaged = bad != rows.end();
      rows.erase(bad, rows.end());
      break;
    }
    case What::Firsts:
      found.credentials = journal.first_credentials_after(read.epoch, kFirstsAtOnce);
      std::erase_if(found.credentials, [&](const proto::SealedCredential& sealed) {
        const auto credential = proto::decode_credential(sealed.document);
        return !credential || credential->epoch > read.to_epoch;
      });
      break;
    case What::Credential:
      if (const auto sealed = journal.credential(read.id)) {
        const auto credential = proto::decode_credential(sealed->document);
        if (credential && credential->serial > 0)
          found.credentials = journal.first_credentials_after(credential->epoch - 1, 1);
        found.credentials.push_back(*sealed);
      }
      break;
  }
  return found;
}

// ---- what happens here ----

void ForwardCore::durable(std::uint64_t last, base::Now now) {
  durable_ = std::max(durable_, last);
  pump(now);
}

void ForwardCore::head(proto::Bytes sealed, const proto::Hash& credential, base::Now now) {
  head_ = newest_head_ = std::move(sealed);
  head_credential_ = credential;
  pump(now);
}

void ForwardCore::tick(base::Now now) {
  for (const auto& [question, waiting] : in_flight_)
    if (waiting.until <= now.mono) return failed(proto::Reject::Unavailable, now);
  pump(now);
}

std::optional<base::MonoTime> ForwardCore::wake() const {
  if (state_ == State::Pause)
    return newest_head_.empty() ? std::nullopt : std::optional(not_before_);
  std::optional<base::MonoTime> wake;
  const auto sooner = [&](base::MonoTime when) { wake = wake ? std::min(*wake, when) : when; };
  if (resend_at_ != base::MonoTime{}) sooner(resend_at_);
  for (const auto& [question, waiting] : in_flight_) sooner(waiting.until);
  return wake;
}

// ---- what goes wrong ----

void ForwardCore::failed(proto::Reject why, base::Now now) {
  if (state_ == State::Pause) return;
  actions_.reconnect();
  pause(why, 0, kLongestAwayPause, now);
}

void ForwardCore::pause(proto::Reject why, std::uint32_t after_ms, base::Duration longest,
                        base::Now now) {
  state_ = State::Pause;
  trouble_ = why;
  damaged_at_ = 0;
  const base::Duration pause = std::min(next_pause_, longest);
  next_pause_ = std::min<base::Duration>(2 * pause, kLongestPause);
  not_before_ = now.mono + std::max<base::Duration>(
                               pause, std::chrono::milliseconds(std::min(after_ms, kMostPauseMs)));
  credentials_.clear();
  queue_.clear();
  in_flight_.clear();
  confirmed_.clear();
  queued_bytes_ = rows_in_flight_ = bytes_in_flight_ = 0;
  credential_in_flight_ = head_in_flight_ = head_known_ = false;
  resend_at_ = {};
  reading_ = 0;
  head_ = newest_head_;
}

// ---- what is next ----

void ForwardCore::pump(base::Now now) {
  if (state_ == State::Pause) {
    // Before there is anything to tell, nobody need be asked.
    if (now.mono < not_before_ || newest_head_.empty()) return;
    state_ = State::Asking;
    return send({Kind::Ask, {}, 0, 0, 0, 0, 0, {}}, now);
  }
  if (state_ == State::Asking) return;
  if (resend_at_ != base::MonoTime{}) {
    if (now.mono < resend_at_) return;
    resend_at_ = {};
  }
  if (credential_in_flight_) return;
  if (!credentials_.empty()) {
    // One at a time, and behind all that was sent before: its answer then says how far the relay
    // is.
    if (rows_in_flight_ > 0 || head_in_flight_) return;
    Item item = std::move(credentials_.front());
    credentials_.pop_front();
    return send(std::move(item), now);
  }
  if (state_ == State::Matching) return match(now);
  send_head(now);
  if (credential_in_flight_ || !credentials_.empty()) return;
  send_rows(now);
}

void ForwardCore::match(base::Now) {
  if (reading_ == 0) ask_journal({What::Match, there_.through, epoch_, 0, {}});
}

void ForwardCore::send_head(base::Now now) {
  if (head_.empty() || head_in_flight_) return;
  if (lacks_credential(head_credential_, 0, 0)) return;
  send({Kind::Head, {std::exchange(head_, {})}, 0, 0, 0, 0, 0, head_credential_}, now);
}

void ForwardCore::send_rows(base::Now now) {
  // By a head the relay knows what we no longer have.
  if (!head_known_) return;
  while (!queue_.empty()) {
    const Item& next = queue_.front();
    if (rows_in_flight_ > 0 &&
        (rows_in_flight_ >= kWindowRequests || bytes_in_flight_ + next.bytes > kWindowBytes))
      break;
    if (lacks_credential(next.credential, next.epoch, next.first)) return;
    Item item = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= item.bytes;
    expected_ = item.last + 1;
    send(std::move(item), now);
  }
  if (reading_ == 0 && next_ <= durable_ && queued_bytes_ < kWindowBytes / 2)
    ask_journal({What::Rows, next_, 0, 0, {}});
}

bool ForwardCore::lacks_credential(const proto::Hash& id, std::uint64_t rows_epoch,
                                   std::uint64_t first) {
  if (reading_ != 0 && read_.what != What::Rows) return true;
  if (rows_epoch > epoch_) {
    // Every epoch's beginning, where the relay's history goes on into it; else only this one's.
    if (reading_ == 0) {
      const bool goes_on = there_.through > 0 && first <= expected_;
      ask_journal({What::Firsts, 0, goes_on ? epoch_ : rows_epoch - 1, rows_epoch, {}});
    }
    return true;
  }
  if (confirmed_.contains(id)) return false;
  if (reading_ == 0) ask_journal({What::Credential, 0, 0, 0, id});
  return true;
}

void ForwardCore::send(Item item, base::Now now) {
  const std::uint64_t question = next_number_++;
  switch (item.kind) {
    case Kind::Rows:
      ++rows_in_flight_;
      bytes_in_flight_ += item.bytes;
      break;
    case Kind::Credential:
      credential_in_flight_ = true;
      break;
    case Kind::Head:
      head_in_flight_ = true;
      break;
    case Kind::Ask:
      break;
  }
  // Rows are in the journal, should they be needed again.
  std::vector<proto::Bytes> parts =
      item.kind == Kind::Rows ? std::exchange(item.parts, {}) : item.parts;
  const Kind kind = item.kind;
  in_flight_.emplace(question, InFlight{std::move(item), now.mono + kTimeout});
  actions_.send(question, kind, std::move(parts));
}

void ForwardCore::ask_journal(ForwardRead read) {
  read_ = read;
  reading_ = next_number_++;
  actions_.read(reading_, read_);
}

// ---- what the journal has ----

void ForwardCore::found(std::uint64_t number, ForwardFound found, base::Now now) {
  if (number != reading_) return;
  reading_ = 0;
  switch (read_.what) {
    case What::Match: {
      const bool same = there_.through == 0 || found.header == there_.header;
      // What we no longer have cannot be compared; the relay compares what follows.
      const bool gone = there_.through < found.oldest;
      if (same || gone) {
        state_ = State::Ready;
        again_from(there_.through + 1);
      } else if (found.credentials.empty()) {
        // It goes on with what we have never published, or not any more.
        return pause(proto::Reject::Equivocation, 0, kLongestPause, now);
      } else {
        queue_credentials(found.credentials);
      }
      break;
    }
    case What::Rows:
      if (found.rows.empty()) {
        pause(found.damaged ? proto::Reject::BadRoot : proto::Reject::NotHeld, 0, kLongestPause,
              now);
        if (found.damaged) damaged_at_ = read_.seq;
        return;
      }
      take_rows(std::move(found.rows), now);
      break;
    case What::Firsts:
    case What::Credential:
      if (found.credentials.empty())
        return pause(proto::Reject::UnknownCredential, 0, kLongestPause, now);
      queue_credentials(found.credentials);
      break;
  }
  pump(now);
}

void ForwardCore::take_rows(std::vector<proto::Bytes> rows, base::Now now) {
  for (proto::Bytes& bytes : rows) {
    const auto row = proto::decode_row(bytes);
    if (!row) return pause(row.error(), 0, kLongestPause, now);
    const auto header = *proto::decode_header(row->header());
    Item* last = queue_.empty() ? nullptr : &queue_.back();
    if (!last || last->credential != header.credential || last->last + 1 != header.first_seq ||
        last->rows >= kRequestRows || last->bytes + bytes.size() > kRequestBytes) {
      last = &queue_.emplace_back();
      last->epoch = header.epoch;
      last->credential = header.credential;
      last->first = header.first_seq;
    }
    last->last = header.last_seq();
    last->bytes += bytes.size();
    ++last->rows;
    queued_bytes_ += bytes.size();
    next_ = header.last_seq() + 1;
    last->parts.push_back(std::move(bytes));
  }
}

void ForwardCore::queue_credentials(const std::vector<proto::SealedCredential>& sealed) {
  for (const proto::SealedCredential& one : sealed) {
    const auto credential = proto::decode_credential(one.document);
    if (!credential) continue;
    Item item;
    item.kind = Kind::Credential;
    item.credential = proto::credential_id(one.document);
    // Those that the matching and the rows need in their order; a head's is only for the head.
    if (credential->serial == 0 && read_.what != What::Credential) item.epoch = credential->epoch;
    item.parts.push_back(proto::encode_sealed(one));
    credentials_.push_back(std::move(item));
  }
}

void ForwardCore::again_from(std::uint64_t seq) {
  queue_.clear();
  queued_bytes_ = 0;
  next_ = expected_ = seq;
}

// ---- what the relay says ----

void ForwardCore::answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer,
                           base::Now now) {
  auto waiting = in_flight_.extract(question);
  if (!waiting) return;
  Item& item = waiting.mapped().item;
  switch (item.kind) {
    case Kind::Rows:
      --rows_in_flight_;
      bytes_in_flight_ -= item.bytes;
      break;
    case Kind::Credential:
      credential_in_flight_ = false;
      break;
    case Kind::Head:
      head_in_flight_ = false;
      break;
    case Kind::Ask:
      break;
  }
  if (!answer) return failed(answer.error(), now);
  const bool may_wait = item.kind == Kind::Credential || item.kind == Kind::Head;
  if (answer->refused == proto::Reject::Busy && may_wait) {
    resend_at_ =
        now.mono + std::chrono::milliseconds(std::clamp(answer->after_ms, 1u, kMostPauseMs));
    if (item.kind == Kind::Credential)
      credentials_.push_front(std::move(item));
    else if (head_.empty())
      head_ = std::move(item.parts.front());
    return;
  }
  // A head's own fault, that says nothing against the rows: another one comes in a second.
  const bool only_this_head =
      item.kind == Kind::Head && answer->refused &&
      (answer->refused == proto::Reject::StaleHead || answer->refused == proto::Reject::ClockSkew);
  if (answer->refused && !only_this_head)
    return pause(*answer->refused, answer->after_ms, kLongestPause, now);
  if (only_this_head) {
    head_known_ = true;
    if (*answer->refused == proto::Reject::ClockSkew) trouble_ = answer->refused;
    return pump(now);
  }
  const auto there = proto::forward_answer(answer->fields);
  if (!there) return pause(there.error(), 0, kLongestPause, now);
  switch (item.kind) {
    case Kind::Ask:
      there_ = *there;
      epoch_ = there->epoch;
      state_ = State::Matching;
      break;
    case Kind::Credential:
      credential_taken(item, *there);
      break;
    case Kind::Rows:
      there_ = *there;
      rows_ += item.rows;
      trouble_.reset();
      next_pause_ = kFirstPause;
      break;
    case Kind::Head:
      head_known_ = true;
      trouble_.reset();
      next_pause_ = kFirstPause;
      break;
  }
  pump(now);
}

void ForwardCore::credential_taken(const Item& item, const proto::ForwardAnswer& there) {
  confirmed_.insert(item.credential);
  there_ = there;
  epoch_ = std::max(epoch_, item.epoch);
  // It has cut off what we have lost with a disk: what comes next is something else.
  if (state_ == State::Ready && there.through + 1 < expected_) {
    state_ = State::Matching;
    epoch_ = std::max(there.epoch, item.epoch);
  }
}

}  // namespace mirrorbus::peer
