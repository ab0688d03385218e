#include "services/mirror/handed_on.hpp"

#include "proto/batch.hpp"
#include "proto/value.hpp"

#include <stdexcept>

namespace mirrorbus::mirror {
namespace {

constexpr std::uint32_t kAskAgainMs = 1000;
constexpr std::string_view kCredentials = "handed-on credentials";
constexpr std::size_t kKept = 32;

// [[id, credential]…], the latest first.
proto::Array kept(const tree::Index& index) {
  const auto stored = index.setting(kCredentials);
  if (!stored) return {};
  auto value = proto::unpack(*stored);
  if (!value || !value->as_array()) throw std::runtime_error("the index holds damaged credentials");
  return *value->as_array();
}

bool is(const proto::Value& each, const proto::Hash& id) {
  const proto::Array* pair = each.as_array();
  return pair && pair->size() == 2 && pair->front().as_hash() == id;
}

}  // namespace

std::optional<proto::Hash> sealer_of(proto::ByteView bytes) {
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame) return std::nullopt;
  const auto header = proto::decode_header(frame->header());
  if (!header) return std::nullopt;
  return header->credential;
}

void keep_credential(tree::Index& index, const proto::Hash& id, proto::ByteView sealed) {
  proto::Array list = kept(index);
  if (!list.empty() && is(list.front(), id)) return;
  std::erase_if(list, [&](const proto::Value& each) { return is(each, id); });
  list.insert(list.begin(), proto::Array{id, proto::Binary{proto::Bytes(sealed)}});
  if (list.size() > kKept) list.resize(kKept);
  index.set_setting(kCredentials, proto::pack(std::move(list)));
}

SealedVersion find_sealed(const tree::Index& index, std::uint64_t number) {
  const auto version = number == 0 ? index.newest() : index.version(number);
  if (!version) return {{}, {}, number == 0};
  SealedVersion found{version->sealed, {}, version->sealed.empty()};
  if (const auto id = sealer_of(found.frame))
    for (const proto::Value& each : kept(index))
      if (is(each, *id)) found.credential = *each.as_array()->back().as_binary();
  return found;
}

void answer_sealed(base::Outcome<SealedVersion>& found, peer::ServeReply reply) {
  if (!found) return reply.refuse(proto::Reject::Unavailable, kAskAgainMs);
  if (found->frame.empty())
    return found->coming ? reply.refuse(proto::Reject::Busy, kAskAgainMs)
                         : reply.refuse(proto::Reject::NotHeld);
  proto::Answer answer;
  answer.parts.push_back(std::move(found->frame));
  if (!found->credential.empty()) answer.parts.push_back(std::move(found->credential));
  reply(std::move(answer));
}

void answer_changes(base::Outcome<std::optional<tree::ChangePage>>& page, peer::ServeReply reply) {
  if (!page) return reply.refuse(proto::Reject::Unavailable);
  if (!*page) return reply.refuse(proto::Reject::NotHeld);
  proto::Answer answer;
  proto::Array list;
  for (const proto::Change& change : (*page)->changes) list.push_back(proto::to_value(change));
  answer.fields = proto::Map{{"changes", std::move(list)}, {"more", (*page)->more}};
  reply(std::move(answer));
}

}  // namespace mirrorbus::mirror
