// Whom to ask where a version may be pulled from: those who answer, in their order, but last those
// whose word has lately come to nothing; each of them once in a try, for who names places that all
// fail must not be the last to be asked. No I/O, no clock. Loop thread only.
#pragma once

#include "bus/base/clock.hpp"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

class AskingOrder {
 public:
  // So long after what one named came to nothing the others are asked before.
  static constexpr base::Duration kMisled = std::chrono::minutes(10);
  // Who has a version puts us off for no longer than that before others are asked.
  static constexpr base::Duration kPatience = std::chrono::seconds(20);

  // Who of these is asked next in this try; empty: all have been.
  std::string next(const std::vector<std::string>& who, base::MonoTime now) const;

  // What it named came to nothing.
  void misled(const std::string& endpoint, base::MonoTime now);
  // What it has itself failed: that is nobody's word for others.
  void failed(const std::string& endpoint) { done_.insert(endpoint); }
  // It says that we are to wait, and has not got the version itself. The first time it is asked
  // again: word of a version may be faster than the version. Then it waits as we do, for us
  // perhaps, and the next of `who` is asked; if there is none, those who wait are asked anew.
  enum class Then { AskAgain, AskNext, NobodyElse };
  Then waits(const std::string& endpoint, const std::vector<std::string>& who, base::MonoTime now);
  // It says that we are to wait, and has the version: asked again for kPatience, then as above, and
  // for kMisled after the others. A crowd may be before us there, or there is no end to it.
  Then puts_off(const std::string& endpoint, const std::vector<std::string>& who,
                base::MonoTime now);

  void new_try();

 private:
  void ask_late(const std::string& endpoint, base::MonoTime now);
  Then next_of(const std::vector<std::string>& who, base::MonoTime now);

  std::set<std::string> done_, once_, waiting_;      // in this try; who waits, once and since
  std::map<std::string, base::MonoTime> put_off_{};  // in this try, since when by whom
  std::map<std::string, base::MonoTime> misled_;     // when; not for longer than kMisled
};

}  // namespace mirrorbus::mirror
