// What every door of a relay hands its submissions to: says who may send what, writes down where it
// came from, publishes it under the relay's own seal, and answers once it is durable. Loop thread
// only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/metrics.hpp"
#include "bus/peer/publisher.hpp"
#include "proto/serve.hpp"
#include "services/relay/rules.hpp"

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::relay {

struct Submission {
  std::optional<proto::SubmissionName> name;  // nothing: no other is the same
  std::string topic;                          // well-formed
  proto::Map body;
};

struct Refusal {
  proto::Reject why;
  std::uint32_t after_ms = 0;  // with Busy: when to ask again
};

class Intake {
 public:
  // The seq under which it is durable, or why it is not taken. Called once, at once or later.
  using Done = std::move_only_function<void(std::expected<std::uint64_t, Refusal>)>;

  Intake(std::shared_ptr<const RelayRules> rules, peer::Publisher& publisher,
         base::Registry& registry, base::Log log);

  void submit(const Client& client, Submission submission, Done done);
  // What a door has refused by itself.
  void count_refused(proto::Reject why);

  void set_rules(std::shared_ptr<const RelayRules> rules) { rules_ = std::move(rules); }
  const RelayRules& rules() const { return *rules_; }
  // Of every event that is taken.
  const proto::Hash& stream() const { return publisher_.stream(); }
  // Nobody waits for an answer.
  bool idle() const { return under_way_.empty() && unnamed_ == 0; }

 private:
  using Name = proto::SubmissionName;

  void publish_unnamed(const std::string& topic, proto::Bytes body, Done done);
  void publish(const Name& name, const std::string& topic, proto::Bytes body);
  void acknowledge(const Name& name, std::uint64_t seq);
  void refuse(const Name& name, Refusal refusal);

  std::shared_ptr<const RelayRules> rules_;  // shared with the doors
  peer::Publisher& publisher_;
  base::Registry& registry_;
  base::Log log_;
  base::Counter& accepted_;
  base::Counter& repeated_;
  // Submissions on their way to the journal, and who wants to know.
  std::map<Name, std::vector<Done>> under_way_;
  std::size_t unnamed_ = 0;  // likewise, of those without a name
};

}  // namespace mirrorbus::relay
