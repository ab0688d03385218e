#include "tools/check_judges.hpp"

#include "bus/net/endpoint.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/batch.hpp"
#include "tools/time_text.hpp"

#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kClockIsFine = 5s;
constexpr base::Duration kKeyEndsSoon = std::chrono::hours(14 * 24);
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

std::string end_of_key(std::int64_t expires_s) {
  if (expires_s == 0) return "never";
  return utc_seconds(static_cast<std::uint64_t>(expires_s) * kNsPerSecond);
}

std::string what_refused(proto::Reject why, const std::string& keyring) {
  switch (why) {
    case proto::Reject::PolicyDenied:
      return "no [[trust.allow]] rule lists this key for this publisher";
    case proto::Reject::UnknownSigner:
      return "the key is not in the keyring " + keyring + ": import it there";
    case proto::Reject::KeyRevoked:
      return "the key has been revoked";
    case proto::Reject::KeyExpired:
      return "the key ends before the credential does: has the newest public key been imported?";
    case proto::Reject::CredentialFuture:
      return "the credential was issued in the future: which clock is right?";
    case proto::Reject::SchemeMismatch:
      return "this kind of key cannot be checked here";
    case proto::Reject::Unavailable:
      return "gpg cannot check it with the keyring " + keyring;
    default:
      return "the credential does not verify";
  }
}

}  // namespace

// ---- DNS ----

Finding judge_srv(SrvKind kind, const std::string& name, const net::SrvAnswer& answer) {
  const bool publishers = kind == SrvKind::Publishers;
  const auto found = [&](Grade grade, std::string text) {
    return Finding{grade, Check::Dns, name, std::move(text)};
  };
  if (answer.status == net::DnsStatus::Failed)
    return found(Grade::Wrong, "DNS does not answer: " + answer.error);
  if (answer.status != net::DnsStatus::Ok || answer.records.empty())
    return found(publishers ? Grade::Wrong : Grade::Warning,
                 publishers ? "no SRV records: nobody finds a publisher by this domain"
                            : "no SRV records: only publishers themselves are asked for history");
  proto::Array endpoints;
  std::vector<std::string> texts, without;
  for (const net::SrvRecord& record : answer.records) {
    if (record.target == ".") continue;
    if (record.addresses.empty()) without.push_back(record.target);
    for (const std::string& address : record.addresses) {
      texts.push_back(net::tcp_endpoint(address, record.port));
      endpoints.emplace_back(texts.back());
    }
  }
  if (!without.empty())
    return found(Grade::Wrong, fmt::format("no address for {}", fmt::join(without, ", ")));
  if (texts.empty())
    return found(Grade::Warning, "the records say that this domain has none, on purpose");
  Finding good = found(
      Grade::Ok, fmt::format("{} records, {}", answer.records.size(), fmt::join(texts, ", ")));
  good.details = {{"endpoints", std::move(endpoints)},
                  {"ttl_seconds", base::to_seconds(answer.ttl)}};
  return good;
}

// ---- keys ----

std::vector<std::string> allowed_topics(const peer::TrustSettings& trust,
                                        const proto::StreamName& stream) {
  std::vector<std::string> topics;
  for (const peer::AllowSettings& rule : trust.allow) {
    peer::TrustSettings one;
    one.allow = {rule};
    if (peer::policy_from(one).lists(stream))
      topics.insert(topics.end(), rule.topics.begin(), rule.topics.end());
  }
  return topics;
}

Finding judge_credential(const proto::Credential& credential, std::int64_t key_expires_s,
                         const std::vector<std::string>& topics, base::WallTime now) {
  const std::string key =
      trust::to_string({credential.stream.scheme, credential.stream.fingerprint});
  const base::WallTime begin = base::from_ns(credential.not_before_ns);
  const base::WallTime end = base::from_ns(credential.not_after_ns);
  const base::WallTime key_end =
      base::from_ns(static_cast<std::uint64_t>(key_expires_s) * kNsPerSecond);
  const std::string until = utc_seconds(credential.not_after_ns);
  Finding found{Grade::Ok,
                Check::Keys,
                credential.stream.publisher,
                "",
                {{"key", key},
                 {"topics", proto::Array(topics.begin(), topics.end())},
                 {"credential_until", until},
                 {"key_until",
                  key_expires_s == 0 ? proto::Value() : proto::Value(end_of_key(key_expires_s))}}};
  const auto say = [&](Grade grade, std::string text) {
    found.grade = grade;
    found.text = std::move(text);
    return found;
  };
  if (key_expires_s != 0 && key_end <= now)
    return say(Grade::Wrong, fmt::format("{} ended at {}: extend it, or use another", key,
                                         end_of_key(key_expires_s)));
  if (end <= now)
    return say(Grade::Wrong, fmt::format("the credential of {} ended at {} and was not renewed: "
                                         "the publisher's log says why",
                                         key, until));
  if (begin > now + peer::CredentialBook::kSkew)
    return say(Grade::Wrong, fmt::format("the credential of {} begins only at {}: which clock is "
                                         "right?",
                                         key, utc_seconds(credential.not_before_ns)));
  if (key_expires_s != 0 && key_end - now < kKeyEndsSoon)
    return say(Grade::Warning, fmt::format("{} ends at {}: extend it, and export it to everybody",
                                           key, end_of_key(key_expires_s)));
  // Renewed at half of its life: in the last quarter that has failed for long.
  if (end - now < (end - begin) / 4)
    return say(Grade::Warning, fmt::format("the credential of {} ends at {} and was not renewed: "
                                           "the publisher's log says why",
                                           key, until));
  return say(Grade::Ok, fmt::format("{} may say {}; the credential ends {}, the key {}", key,
                                    fmt::join(topics, ", "), until, end_of_key(key_expires_s)));
}

Finding judge_refused(const proto::Credential& credential, proto::Reject why,
                      const std::string& keyring) {
  const std::string key =
      trust::to_string({credential.stream.scheme, credential.stream.fingerprint});
  return {
      Grade::Wrong,
      Check::Keys,
      credential.stream.publisher,
      fmt::format("{} is not trusted ({}): {}", key, to_string(why), what_refused(why, keyring)),
      {{"key", key}, {"refused", to_string(why)}}};
}

// ---- clock ----

Finding judge_clock(const std::string& publisher, std::uint64_t head_time_ns, base::WallTime now) {
  const base::Duration ahead = base::from_ns(head_time_ns) - now;
  const base::Duration off = std::chrono::abs(ahead);
  const char* side = ahead > base::Duration::zero() ? "ahead of" : "behind";
  Finding found{Grade::Ok,
                Check::Clock,
                publisher,
                fmt::format("{:.1f} s {} ours", base::to_seconds(off), side),
                {{"ahead_seconds", base::to_seconds(ahead)}}};
  if (off > peer::CredentialBook::kSkew) {
    found.grade = Grade::Wrong;
    found.text += ": its heads are refused, set the clock that is wrong";
  } else if (off > kClockIsFine) {
    found.grade = Grade::Warning;
    found.text += fmt::format(
        ": beyond {} s its heads are refused",
        std::chrono::duration_cast<std::chrono::seconds>(peer::CredentialBook::kSkew).count());
  }
  return found;
}

// ---- sequences ----

std::optional<ServedRange> ServedRange::read(const proto::Answer& answer) {
  const auto epoch = proto::field<std::uint64_t>(answer.fields, "epoch");
  const auto oldest = proto::field<std::uint64_t>(answer.fields, "oldest");
  const auto last = proto::field<std::uint64_t>(answer.fields, "last");
  if (!epoch || !oldest || !last) return std::nullopt;
  return ServedRange{*epoch, *oldest, *last};
}

void RangeReader::take(const proto::Answer& answer) {
  if (answer.refused) {
    fault_ = fmt::format("the replay from {} on is refused: {}", next_, to_string(*answer.refused));
    return;
  }
  const auto fields = proto::replay_answer(answer.fields);
  if (!fields) {
    fault_ =
        fmt::format("the replay from {} on cannot be read: {}", next_, to_string(fields.error()));
    return;
  }
  next_ = std::max(next_, fields->oldest);  // retention takes what is oldest, also meanwhile
  const std::uint64_t before = next_;
  for (const proto::Bytes& part : answer.parts) {
    bytes_ += part.size();
    const auto row = proto::decode_row(part);
    if (!row)
      fault_ = fmt::format("the row from {} on is damaged: {}", next_, to_string(row.error()));
    else
      take_row(*row);
    if (!fault_.empty()) return;
  }
  // It claims to have shown everything up to there.
  const std::uint64_t through = std::min(fields->through, last_);
  if (next_ <= through)
    fault_ = fmt::format("{} to {} are missing", next_, through);
  else if (next_ == before && !done())
    fault_ = fmt::format("the replay does not get beyond {}", before);
}

void RangeReader::take_row(const proto::BatchRow& row) {
  const proto::BatchHeader header = *proto::decode_header(row.header());
  if (header.first_seq > next_) {
    fault_ = fmt::format("{} to {} are missing", next_, header.first_seq - 1);
    return;
  }
  if (proto::row_root(row) != header.root) {
    fault_ = fmt::format("{} to {} are not what was signed", header.first_seq, header.last_seq());
    return;
  }
  if (header.epoch == epoch_ && header.number == number_ + 1 && header.previous != header_) {
    fault_ = fmt::format("the batch from {} on does not follow the one before", header.first_seq);
    return;
  }
  epoch_ = header.epoch;
  number_ = header.number;
  header_ = proto::header_hash(row.header());
  next_ = std::max(next_, header.last_seq() + 1);
}

Finding judge_sequences(const std::string& publisher, const proto::Head& head,
                        const std::string& endpoint, const ServedRange& served,
                        const RangeReader& range) {
  Finding found{Grade::Ok,
                Check::Sequences,
                publisher,
                "",
                {{"head", head.last},
                 {"oldest", served.oldest},
                 {"last", served.last},
                 {"read_to", range.next() - 1},
                 {"endpoint", endpoint}}};
  const auto say = [&](Grade grade, std::string text) {
    found.grade = grade;
    found.text = std::move(text);
    return found;
  };
  if (served.last < head.last)
    return say(Grade::Wrong, fmt::format("{} is behind: it holds {} to {}, the head says {}",
                                         endpoint, served.oldest, served.last, head.last));
  if (!range.fault().empty())
    return say(Grade::Wrong, fmt::format("{}: {}", endpoint, range.fault()));
  if (served.oldest > served.last)
    return say(Grade::Warning,
               fmt::format("{} holds nothing, the head says {}", endpoint, head.last));
  if (served.oldest > head.oldest)
    return say(Grade::Warning, fmt::format("{} holds {} to {}, the publisher from {} on", endpoint,
                                           served.oldest, served.last, head.oldest));
  const std::string held = fmt::format("{} holds {} to {}, the head says {}", endpoint,
                                       served.oldest, served.last, head.last);
  if (range.done()) return say(Grade::Ok, held + "; no gaps");
  return say(Grade::Ok,
             fmt::format("{}; no gaps up to {}, no time for more", held, range.next() - 1));
}

}  // namespace mirrorbus::tools
