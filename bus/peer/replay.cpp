#include "bus/peer/replay.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

// As many as may be checked at once, and those that are needed first: fewer are kept than an answer
// may need, and later ones must not take the place of earlier ones.
constexpr std::size_t kFetchedAtOnce = static_cast<std::size_t>(SourceBudget::kCheckBurst);

// One signature proves a run of rows: each header names the hash of the one before. `i` and the row
// after it.
bool chains(const Replay& replay, std::size_t i) {
  const proto::BatchHeader &one = replay.headers[i], &next = replay.headers[i + 1];
  return one.epoch == next.epoch && one.number + 1 == next.number &&
         proto::header_hash(replay.rows[i].header()) == next.previous;
}

std::optional<proto::Reject> check_row(const Replay& replay, std::size_t i, bool chained,
                                       const SubscribedStream& stream, CredentialBook& book,
                                       base::Now now) {
  const proto::BatchRow& row = replay.rows[i];
  const proto::BatchHeader& header = replay.headers[i];
  const KnownCredential* known = book.find(header.credential);
  if (known->stream != stream.id) return proto::Reject::WrongStream;
  if (known->credential.epoch != header.epoch) return proto::Reject::BadField;
  const auto good = chained ? book.check_life(header.credential, header.time_ns, false, now)
                            : book.check_seal(header.credential, header.time_ns, row.header(),
                                              row.seal(), false, now);
  if (!good) return good.error();
  if (proto::row_root(row) != header.root) return proto::Reject::BadRoot;
  if (header.epoch < stream.epoch && header.last_seq() > stream.tracker->position() &&
      !(stream.may_hold(std::max(header.first_seq, stream.tracker->position() + 1), header.epoch) &&
        stream.may_hold(header.last_seq(), header.epoch)))
    return proto::Reject::EpochRollback;
  if (header.epoch == stream.epoch &&
      stream.headers.contradict(header.number, proto::header_hash(row.header())))
    return proto::Reject::Equivocation;
  if (i > 0 && replay.headers[i - 1].last_seq() >= header.first_seq)
    return proto::Reject::BadOrder;
  return std::nullopt;
}

}  // namespace

// The first of these whose credentials are known; the others' are fetched.
std::size_t Replay::rows_believed(const SubscribedStream& stream, CredentialIntake& intake,
                                  base::Now now) const {
  std::size_t good = headers.size(), fetched = 0;
  for (std::size_t i = 0; i < headers.size() && fetched < kFetchedAtOnce; ++i) {
    const KnownCredential* known = intake.book().find(headers[i].credential);
    if (known && known->state != KnownCredential::State::Checking) continue;
    good = std::min(good, i);
    if (known || (i > 0 && headers[i].credential == headers[i - 1].credential)) continue;
    intake.fetch(headers[i].credential, stream.id, now);
    ++fetched;
  }
  return good;
}

// The first row that could be read if those before it were given up; never above one named before.
void Replay::find_readable(SubscribedStream& stream, CredentialIntake& intake) const {
  const std::uint64_t position = stream.tracker->position();
  for (const proto::BatchHeader& header : headers) {
    const KnownCredential* known = intake.book().find(header.credential);
    if (!known || known->state != KnownCredential::State::Good || header.first_seq <= position + 1)
      continue;
    const std::uint64_t before = header.first_seq - 1;
    stream.unread_to = stream.unread_to > position ? std::min(stream.unread_to, before) : before;
    return;
  }
}

proto::Decoded<Replay> Replay::read(const proto::Answer& answer, SubscribedStream& stream,
                                    CredentialIntake& intake, base::Now now) {
  auto fields = proto::replay_answer(answer.fields);
  if (!fields) return proto::refuse(fields.error());
  Replay replay{*fields, {}, {}};
  for (const proto::Bytes& part : answer.parts) {
    auto row = proto::decode_row(part);
    if (!row) return proto::refuse(row.error());
    replay.headers.push_back(*proto::decode_header(row->header()));
    replay.rows.push_back(std::move(*row));
  }
  if (const std::size_t good = replay.rows_believed(stream, intake, now);
      good < replay.rows.size()) {
    // An answer may hold more epochs than credentials are kept: what can be taken is.
    if (good == 0) {
      replay.find_readable(stream, intake);
      return proto::refuse(proto::Reject::UnknownCredential);
    }
    replay.rows.resize(good);
    replay.headers.resize(good);
    replay.fields.through = std::min(replay.fields.through, replay.headers.back().last_seq());
    replay.fields.more = true;
  }
  bool chained = false;
  for (std::size_t i = replay.rows.size(); i-- > 0;) {
    if (const auto why = check_row(replay, i, chained, stream, intake.book(), now))
      return proto::refuse(*why);
    chained = i > 0 && chains(replay, i - 1);
    if (chained && replay.headers[i - 1].last_seq() + 1 != replay.headers[i].first_seq)
      return proto::refuse(proto::Reject::BadChain);
  }
  return replay;
}

}  // namespace mirrorbus::peer
