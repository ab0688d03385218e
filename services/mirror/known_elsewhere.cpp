#include "services/mirror/known_elsewhere.hpp"

#include "proto/batch.hpp"
#include "proto/event.hpp"
#include "proto/tree_update.hpp"

#include <memory>

namespace mirrorbus::mirror {

std::optional<proto::VersionRecord> announced_version(proto::ByteView bytes,
                                                      const std::string& topic) {
  const auto frame = proto::decode_event_frame(bytes);
  if (!frame || frame->topic != topic) return std::nullopt;
  const auto event = proto::decode_event(frame->event);
  if (!event) return std::nullopt;
  auto update = proto::decode_update(event->body);
  if (!update) return std::nullopt;
  return std::move(update->record);
}

void ask_elsewhere(peer::Asker& asker, const std::vector<std::string>& endpoints,
                   const std::string& tree, const std::string& topic, std::uint64_t number,
                   std::move_only_function<void(std::optional<KnownElsewhere>)> done) {
  struct Round {
    std::size_t open;
    std::optional<KnownElsewhere> best;
    std::move_only_function<void(std::optional<KnownElsewhere>)> done;
  };
  if (endpoints.empty()) return done(std::nullopt);
  // Shared by the answers that are still to come.
  auto round = std::make_shared<Round>(endpoints.size(), std::nullopt, std::move(done));
  proto::Map args{{"name", tree}};
  if (number > 0) args.emplace_back("number", number);
  for (const std::string& endpoint : endpoints) {
    peer::Asker::OnAnswer answered = [round, endpoint, topic,
                                      number](proto::Decoded<proto::Answer> answer,
                                              const std::string&) {
      if (answer && !answer->refused && !answer->parts.empty())
        if (auto record = announced_version(answer->parts.front(), topic))
          if ((number == 0 || record->number == number) &&
              (!round->best || round->best->record.number < record->number))
            round->best = KnownElsewhere{endpoint, std::move(*record)};
      if (--round->open == 0) round->done(std::move(round->best));
    };
    try {
      asker.ask(endpoint, "tree", args, std::move(answered));
    } catch (const std::exception&) {  // no endpoint that libzmq knows
      answered(proto::refuse(proto::Reject::Unavailable), {});
    }
  }
}

}  // namespace mirrorbus::mirror
