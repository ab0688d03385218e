// Asks for what a subscriber's streams are missing, and takes the answers: replays, the credentials
// that began epochs, and where a time lies. Gives up on what cannot be had.
#pragma once

#include "bus/peer/credential_intake.hpp"
#include "bus/peer/event_order.hpp"
#include "bus/peer/replay.hpp"

#include <unordered_map>

namespace mirrorbus::peer {

// The streams it is handed outlive it.
class CatchUp {
 public:
  CatchUp(Subscription& subscription, CredentialIntake& intake, EventOrder& order)
      : subscription_(subscription), intake_(intake), order_(order) {}

  // Asks, if something is missing and no question is under way.
  void pursue(SubscribedStream& stream, base::Now now);
  // What was asked for in vain may be had now.
  void try_again(SubscribedStream& stream, base::Now now);
  // The stream is joined at the first event from the subscription's start time on.
  void locate(SubscribedStream& stream, base::Now now);
  // A credential of an epoch above the stream's own.
  void new_epoch(SubscribedStream& stream, const proto::Credential& credential, base::Now now);
  // False: the question was not asked here.
  bool answered(std::uint64_t question, const proto::Decoded<proto::Answer>& answer,
                SourceId source, base::Now now);
  void tick(SubscribedStream& stream, base::Now now);

 private:
  void ask(SubscribedStream& stream, std::string verb, proto::Map args);
  void ask_replay(SubscribedStream& stream, std::uint64_t from);
  void ask_ahead(SubscribedStream& stream, const proto::Answer& answer);
  bool trace(SubscribedStream& stream);
  void traced(SubscribedStream& stream, const proto::Answer& answer, SourceId source,
              base::Now now);
  void give_up(SubscribedStream& stream, std::uint64_t to, GapReason reason, base::Now now);
  void enter_epoch(SubscribedStream& stream, const proto::Credential& first, base::Now now);
  void located(SubscribedStream& stream, const proto::Answer& answer, base::Now now);
  void listed(SubscribedStream& stream, const proto::Answer& answer, SourceId source,
              base::Now now);
  static std::uint64_t list_before(SubscribedStream& stream);
  static void know_epochs(SubscribedStream& stream);
  void walk_epochs(SubscribedStream& stream,
                   const std::vector<const proto::Credential*>& serial_zeros, base::Now now);
  void replayed(SubscribedStream& stream, const proto::Answer& answer, SourceId source,
                base::Now now);
  // What an answer leaves out: (position, to]; 0: nothing. And whether an event is known to be at
  // `to`.
  struct Hole {
    std::uint64_t to = 0;
    bool is_event = false;
  };
  // How far a replay goes, and what it leaves out.
  struct Taken {
    std::uint64_t through;
    Hole hole;
  };
  Taken take(SubscribedStream& stream, const Replay& replay);
  Hole take_row(SubscribedStream& stream, const proto::BatchRow& row,
                const proto::BatchHeader& header);
  Taken held_against_what_is_known(const SubscribedStream& stream, Taken taken);

  Subscription& subscription_;
  CredentialIntake& intake_;
  EventOrder& order_;
  std::unordered_map<std::uint64_t, SubscribedStream*> questions_;
};

}  // namespace mirrorbus::peer
