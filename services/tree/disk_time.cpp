#include "services/tree/disk_time.hpp"

#include "proto/wire.hpp"

namespace mirrorbus::tree {
namespace {

constexpr std::string_view kBootSetting = "boot looked at";
constexpr std::string_view kSyncedSetting = "synced until";

}  // namespace

DiskTime::DiskTime(Index& index, std::string boot) : index_(index), boot_(std::move(boot)) {}

std::optional<timespec> DiskTime::doubtful_since() const {
  if (!boot_.empty() && index_.setting(kBootSetting) == boot_) return std::nullopt;
  const auto synced = index_.setting(kSyncedSetting);
  if (!synced) return timespec{};
  proto::Reader r(*synced);
  timespec at{};
  at.tv_sec = static_cast<time_t>(r.u64());
  at.tv_nsec = static_cast<long>(r.u64());
  return r.failure() ? timespec{} : at;
}

void DiskTime::looked_at_all() {
  if (index_.setting(kBootSetting) != boot_) index_.set_setting(kBootSetting, boot_);
}

void DiskTime::synced(const timespec& at) {
  Bytes bytes;
  proto::Writer(bytes)
      .u64(static_cast<std::uint64_t>(at.tv_sec))
      .u64(static_cast<std::uint64_t>(at.tv_nsec));
  index_.set_setting(kSyncedSetting, bytes);
}

}  // namespace mirrorbus::tree
