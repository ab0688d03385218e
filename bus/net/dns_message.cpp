#include "bus/net/dns_message.hpp"

#include "proto/wire.hpp"

#include <algorithm>

#include <ares.h>

namespace mirrorbus::net {
namespace {

constexpr std::uint16_t kClassIn = 1, kTypeSoa = 6, kTypeSrv = 33;

// Walks a message. Names may point back into all of it, so it is kept whole.
class Message {
 public:
  explicit Message(proto::ByteView bytes) : bytes_(bytes), reader_(bytes) {}

  proto::Reader& reader() { return reader_; }

  // A name at the current place; "." for the root.
  std::string name() {
    if (reader_.failure()) return {};
    const proto::ByteView rest = reader_.rest();
    if (rest.empty()) {
      reader_.fail(proto::Reject::Truncated);
      return {};
    }
    const auto* const all = reinterpret_cast<const unsigned char*>(bytes_.data());
    char* text = nullptr;
    long size = 0;
    const int status = ares_expand_name(reinterpret_cast<const unsigned char*>(rest.data()), all,
                                        static_cast<int>(bytes_.size()), &text, &size);
    if (status != ARES_SUCCESS) {
      reader_.fail(proto::Reject::BadField);
      return {};
    }
    std::string out = text;
    ares_free_string(text);
    reader_.raw(static_cast<std::size_t>(size));  // what it takes here, not what it points to
    return out.empty() ? "." : out;
  }

  struct Record {
    std::uint16_t type = 0;
    std::uint16_t rr_class = 0;
    std::uint32_t ttl_s = 0;
    std::size_t end = 0;  // bytes left in the message after the record
  };
  Record record() {
    Record record;
    name();
    record.type = reader_.u16();
    record.rr_class = reader_.u16();
    record.ttl_s = reader_.u32();
    if (record.ttl_s > INT32_MAX) record.ttl_s = 0;  // RFC 2181 §8
    const std::size_t length = reader_.u16();
    if (reader_.rest().size() < length) reader_.fail(proto::Reject::Truncated);
    record.end = reader_.failure() ? 0 : reader_.rest().size() - length;
    return record;
  }
  // To the end of a record whose data were read or not; they must not have gone beyond it.
  void finish(const Record& record) {
    if (reader_.failure()) return;
    if (reader_.rest().size() < record.end)
      reader_.fail(proto::Reject::BadField);
    else
      reader_.raw(reader_.rest().size() - record.end);
  }

 private:
  proto::ByteView bytes_;
  proto::Reader reader_;
};

}  // namespace

proto::Decoded<SrvReply> parse_srv_reply(proto::ByteView bytes) {
  constexpr std::size_t kMaxMessage = 65535;
  if (bytes.size() > kMaxMessage) return proto::refuse(proto::Reject::TooLarge);
  Message message(bytes);
  proto::Reader& in = message.reader();
  SrvReply reply;
  in.u16();  // id
  const std::uint16_t flags = in.u16();
  const std::uint16_t questions = in.u16(), answers = in.u16(), authorities = in.u16();
  in.u16();  // additional records are of no interest
  if (!in.failure() && (flags & 0x8000) == 0) in.fail(proto::Reject::BadField);  // a question
  reply.rcode = flags & 0x0f;

  for (int i = 0; i < questions && !in.failure(); ++i) {
    message.name();
    in.u32();  // type and class
  }
  std::optional<std::uint32_t> ttl;
  for (int i = 0; i < answers && !in.failure(); ++i) {
    const auto record = message.record();
    if (record.rr_class == kClassIn) ttl = std::min(ttl.value_or(record.ttl_s), record.ttl_s);
    if (record.type == kTypeSrv && record.rr_class == kClassIn) {
      SrvRecord srv;
      srv.priority = in.u16();
      srv.weight = in.u16();
      srv.port = in.u16();
      srv.target = message.name();
      if (reply.records.size() == kMaxSrvRecords) in.fail(proto::Reject::TooLarge);
      reply.records.push_back(std::move(srv));
    }
    message.finish(record);
  }
  reply.ttl_s = ttl.value_or(0);
  for (int i = 0; i < authorities && !in.failure(); ++i) {
    const auto record = message.record();
    if (record.type == kTypeSoa && record.rr_class == kClassIn) {
      message.name();  // primary server
      message.name();  // mailbox
      for (int skipped = 0; skipped < 4; ++skipped) in.u32();
      reply.negative_ttl_s = std::min(record.ttl_s, in.u32());
    }
    message.finish(record);
  }
  if (in.failure()) return proto::refuse(*in.failure());
  return reply;
}

}  // namespace mirrorbus::net
