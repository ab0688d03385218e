// [[relay.forward]]: who may hand whose stream over to this relay. Nobody, but by a rule.
#pragma once

#include "bus/base/config.hpp"
#include "services/relay/rules.hpp"

#include <string>
#include <vector>

namespace mirrorbus::relay {

class ForwardRules {
 public:
  // Raises base::ConfigError. `tokens`: those that a rule may name.
  static ForwardRules read(const base::Config& config, const Tokens& tokens);

  bool empty() const { return rules_.empty(); }
  // `peer` as ServeServer gives it; `token`: the name of the one it has shown, empty = none.
  bool covers(const std::string& peer, const std::string& token) const;
  bool covers(const std::string& peer, const std::string& token,
              const std::string& publisher) const;

 private:
  struct Rule {
    AllowRule from;
    std::vector<std::string> publishers;  // shell patterns over names; at least one
  };
  std::vector<Rule> rules_;
};

}  // namespace mirrorbus::relay
