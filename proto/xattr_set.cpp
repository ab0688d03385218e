#include "proto/xattr_set.hpp"

#include "proto/wire.hpp"

#include <cassert>

namespace mirrorbus::proto {
namespace {

constexpr ByteView kMagic("mbx\x01", 4);

bool valid_name(ByteView name) {
  return !name.empty() && name.find('\0') == ByteView::npos;
}

}  // namespace

Bytes encode_xattr_set(const XattrSet& set) {
  Bytes out(kMagic);
  Writer w(out);
  ByteView last;
  for (const Xattr& each : set) {
    assert(valid_name(each.name) && each.name.size() <= kMaxXattrNameSize && last < each.name);
    last = each.name;
    w.short_string(each.name).varint(each.value.size()).raw(each.value);
  }
  return out;
}

Decoded<XattrSet> decode_xattr_set(ByteView bytes) {
  if (bytes.size() > kMaxXattrSetSize) return refuse(Reject::TooLarge);
  Reader r(bytes);
  if (r.raw(kMagic.size()) != kMagic) r.fail(Reject::BadMagic);
  XattrSet set;
  while (!r.failure() && !r.at_end()) {
    Xattr each;
    each.name = r.short_string();
    const std::uint64_t size = r.varint();
    if (size > kMaxXattrValueSize) r.fail(Reject::TooLarge);
    each.value = r.raw(size);
    if (r.failure()) break;
    if (!valid_name(each.name)) r.fail(Reject::BadName);
    if (!set.empty() && each.name <= set.back().name) r.fail(Reject::BadOrder);
    set.push_back(std::move(each));
  }
  if (r.failure()) return refuse(*r.failure());
  if (set.empty()) return refuse(Reject::BadCount);
  return set;
}

}  // namespace mirrorbus::proto
