#include "bus/peer/source_budget.hpp"

#include <algorithm>

namespace mirrorbus::peer {

bool SourceBudget::take_check(SourceId source, base::MonoTime now) {
  Checks& checks = checks_.try_emplace(source, Checks{kCheckBurst, now}).first->second;
  const double seconds = std::chrono::duration<double>(now - checks.at).count();
  checks.tokens = std::min(kCheckBurst, checks.tokens + seconds * kChecksPerSecond);
  checks.at = now;
  if (checks.tokens < 1) return false;
  checks.tokens -= 1;
  return true;
}

bool SourceBudget::failed(SourceId source, const proto::Hash& stream, base::MonoTime now) {
  if (records_.size() >= kMaxRecords) forget_old(now);
  Record& record = records_[{source, stream}];
  if (now < record.until) return false;
  // Whoever has been good for long starts anew.
  if (now - record.last > kLongestCut) record = {};
  record.last = now;
  if (++record.failures < kFailures) return false;
  record.failures = 0;
  record.until =
      now + std::min<base::Duration>(kLongestCut, kFirstCut * (1u << std::min(record.cuts, 10u)));
  ++record.cuts;
  return true;
}

bool SourceBudget::cut(SourceId source, const proto::Hash& stream, base::MonoTime now) const {
  if (records_.empty()) return false;
  const auto it = records_.find({source, stream});
  return it != records_.end() && now < it->second.until;
}

void SourceBudget::forget_old(base::MonoTime now) {
  std::erase_if(records_,
                [now](const auto& entry) { return now - entry.second.last > kLongestCut; });
  // Names are free to invent: rather forget who failed than remember without end.
  if (records_.size() >= kMaxRecords) records_.clear();
}

}  // namespace mirrorbus::peer
