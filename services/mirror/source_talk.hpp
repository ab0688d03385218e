// What a mirror and those it pulls from tell each other of a tree, by the serve verb `have`: it
// says what it has, and hears what they have, where else there is content, and from whom to pull.
// So a mirror that cannot hear the origin follows one that can. See proto/serve.md. Loop thread
// only.
#pragma once

#include "bus/base/loop.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/tree_have.hpp"
#include "services/mirror/asking_order.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

class SourceTalk {
 public:
  // What the mirror can say of itself now.
  struct Standing {
    std::uint64_t committed = 0;
    std::uint64_t known = 0;              // the newest version it knows of
    std::optional<proto::Hash> origin{};  // the stream it follows
    bool hears_origin = false;            // by the bus: then nobody need be asked what is new
    bool complete = true;                 // what is committed lacks nothing: others may pull it
  };
  struct Heard {
    proto::HaveAnswer said;
    std::string from;  // where whoever said it was, as net::ZmqSender::address()
  };
  struct Handlers {
    std::function<Standing()> standing;
    // `endpoint` has a version that is not known here.
    std::function<void(const std::string& endpoint, std::uint64_t number)> on_newer;
  };
  // `content`: our content listener's URL, or empty. `run`: of kept_run().
  SourceTalk(base::Loop& loop, peer::Subscriber& subscriber, std::string tree, proto::Bytes run,
             std::string content, Handlers handlers);

  // There is something new to say, or to hear: soon.
  void wake();
  void stop();

  // What those said who answer, have a content listener and at least `version`.
  std::vector<Heard> having(std::uint64_t version) const;
  // Who answers, the one to ask first before the others.
  std::vector<std::string> answering() const;
  // Somebody said within `within` what he has.
  bool heard(base::Duration within) const;

  // Asks where to pull `version` from, of those who answer the first who has not failed in this
  // try; nothing if nobody does. Until pulled(), the end of the try, everybody is told that we are
  // at it.
  using OnPlace = std::move_only_function<void(std::optional<Heard>)>;
  void ask_to_pull(std::uint64_t version, OnPlace on_place);
  // Nothing has come from where whoever was asked last said: others are asked, in this try, and if
  // these were places that he named, before him in the next. Who that was; empty: nobody.
  std::string came_to_nothing();
  void pulled();

 private:
  struct Peer {
    std::optional<proto::HaveAnswer> said{};  // the answer, if there was one to the last question
    std::string from{};                       // where it came from
    base::MonoTime heard{};
    base::MonoTime due{};  // when to tell it again
    bool asking = false;
    bool tried = false;  // has answered, or not, at least once
    bool soon = false;  // there has been news since it was asked
  };
  void tick();
  void look_around();
  void tell(const std::string& endpoint, OnPlace on_place);
  void answered(const std::string& endpoint, proto::Decoded<proto::Answer> answer,
                const std::string& from, OnPlace on_place);
  base::Duration pace(const Peer& peer) const;
  std::vector<std::string> askable() const;  // who answers, then who has not been asked yet

  base::Loop& loop_;
  peer::Subscriber& subscriber_;
  const std::string tree_;
  const proto::Bytes run_;
  const std::string content_;
  Handlers handlers_;
  std::vector<std::string> order_;  // endpoints, as they are to be asked
  std::map<std::string, Peer> peers_;
  std::uint64_t want_ = 0;
  std::string want_at_;  // who was asked for it
  proto::HaveAnswer::Pull told_{};  // what he said
  AskingOrder turn_;
  bool failing_ = false;  // something has come to nothing in this try
  bool stopped_ = false;
  base::Timer tick_;
};

}  // namespace mirrorbus::mirror
