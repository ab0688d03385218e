#include "bus/peer/replay.hpp"

namespace mirrorbus::peer {
namespace {

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

proto::Decoded<Replay> Replay::read(const proto::Answer& answer, const SubscribedStream& stream,
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
  bool chained = false;
  for (std::size_t i = replay.rows.size(); i-- > 0;) {
    if (!intake.book().find(replay.headers[i].credential)) {
      for (std::size_t k = 0; k <= i; ++k)
        if (!intake.book().find(replay.headers[k].credential))
          intake.fetch(replay.headers[k].credential, stream.id, now);
      return proto::refuse(proto::Reject::UnknownCredential);
    }
    if (const auto why = check_row(replay, i, chained, stream, intake.book(), now))
      return proto::refuse(*why);
    chained = i > 0 && chains(replay, i - 1);
    if (chained && replay.headers[i - 1].last_seq() + 1 != replay.headers[i].first_seq)
      return proto::refuse(proto::Reject::BadChain);
  }
  return replay;
}

}  // namespace mirrorbus::peer
