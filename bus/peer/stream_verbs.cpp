#include "bus/peer/stream_verbs.hpp"

#include "proto/batch.hpp"
#include "proto/limits.hpp"

#include <algorithm>

namespace mirrorbus::peer {
namespace {

constexpr std::uint64_t kMaxListed = 64;

proto::Answer refused(proto::Reject why) {
  proto::Answer answer;
  answer.refused = why;
  return answer;
}

}  // namespace

std::optional<proto::Answer> StreamVerbs::answer(const proto::Request& request) {
  std::optional<proto::Answer> answer;
  if (request.verb == "info")
    answer = info(request);
  else if (request.verb == "credential")
    answer = credential(request);
  else if (request.verb == "replay")
    answer = replay(request);
  if (answer) answer->id = request.id;
  return answer;
}

proto::Answer StreamVerbs::info(const proto::Request& request) {
  if (const proto::Value* stream = request.args.find("stream");
      stream && stream->as_hash() != stream_)
    return refused(proto::Reject::NotHeld);
  const store::Tail tail = journal_.tail();
  proto::Map fields{{"stream", stream_},
                    {"epoch", tail.epoch},
                    {"last", tail.last_seq},
                    {"oldest", tail.oldest_seq}};
  if (const proto::Value* time = request.args.find("time")) {
    if (!time->as_u64()) return refused(proto::Reject::WrongType);
    const std::uint64_t before = journal_.seq_before(*time->as_u64());
    fields.emplace_back("before", std::max(before, tail.oldest_seq - 1));
  }
  proto::Answer answer;
  answer.fields = std::move(fields);
  return answer;
}

proto::Answer StreamVerbs::credential(const proto::Request& request) {
  proto::Answer answer;
  if (const proto::Value* id = request.args.find("credential")) {
    if (!id->as_hash()) return refused(proto::Reject::WrongType);
    const auto sealed = journal_.credential(*id->as_hash());
    if (!sealed) return refused(proto::Reject::NotHeld);
    answer.parts.push_back(proto::encode_sealed(*sealed));
    return answer;
  }
  const auto stream = proto::field<proto::Hash>(request.args, "stream");
  if (!stream) return refused(stream.error());
  if (*stream != stream_) return refused(proto::Reject::NotHeld);
  const auto before = proto::field<std::uint64_t>(request.args, "before_epoch");
  const auto limit = proto::field<std::uint64_t>(request.args, "limit");
  if (!before) return refused(before.error());
  if (!limit) return refused(limit.error());
  for (const auto& sealed :
       journal_.first_credentials_before(*before, std::min(*limit, kMaxListed)))
    answer.parts.push_back(proto::encode_sealed(sealed));
  return answer;
}

proto::Answer StreamVerbs::replay(const proto::Request& request) {
  const auto asked = proto::replay_request(request.args);
  if (!asked) return refused(asked.error());
  if (asked->stream != stream_) return refused(proto::Reject::NotHeld);
  const store::Tail tail = journal_.tail();
  proto::ReplayAnswer answer;
  answer.oldest = tail.oldest_seq;
  answer.last = tail.last_seq;
  // What is not published yet is not answered for.
  const std::uint64_t to = std::min(asked->to, tail.last_seq);
  if (asked->from > to) return refused(proto::Reject::NotHeld);
  store::ReadRequest read;
  read.from = asked->from;
  read.to = to;
  read.prefix = asked->prefix;
  read.max_bytes = std::min<std::uint64_t>(asked->max_bytes, proto::kMaxAnswerBytes / 2);
  store::ReadResult rows = journal_.read(read);
  answer.through = rows.through;
  answer.more = rows.more;
  // What no longer is what was signed is not held: whoever asks must neither take it for the
  // publisher's lie nor stop there. The next event's back-pointer tells of the hole.
  damaged_ +=
      std::erase_if(rows.rows, [](const proto::Bytes& row) { return !proto::is_sound_row(row); });
  proto::Answer result;
  result.fields = proto::to_fields(answer);
  result.parts = std::move(rows.rows);
  return result;
}

}  // namespace mirrorbus::peer
