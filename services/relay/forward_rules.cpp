#include "services/relay/forward_rules.hpp"

#include "bus/trust/policy.hpp"
#include "services/relay/relay_settings.hpp"

#include <algorithm>

namespace mirrorbus::relay {

ForwardRules ForwardRules::read(const base::Config& config, const Tokens& tokens) {
  ForwardRules rules;
  for (const base::ConfigTable& table : config.table("relay").tables("forward")) {
    Rule rule{read_from(table, tokens, "streams are not handed over by HTTP"),
              table.texts("publishers")};
    if (rule.publishers.empty())
      table.fail("publishers",
                 "must list whose streams are taken, e.g. [\"mirrord@*.example.org\"]");
    rules.rules_.push_back(std::move(rule));
  }
  return rules;
}

bool ForwardRules::covers(const std::string& peer, const std::string& token) const {
  const Client client = Client::over_zeromq(peer, token);
  return std::ranges::any_of(rules_, [&](const Rule& rule) { return rule.from.covers(client); });
}

bool ForwardRules::covers(const std::string& peer, const std::string& token,
                          const std::string& publisher) const {
  const Client client = Client::over_zeromq(peer, token);
  return std::ranges::any_of(rules_, [&](const Rule& rule) {
    return rule.from.covers(client) && trust::matches_name(rule.publishers, publisher);
  });
}

}  // namespace mirrorbus::relay
