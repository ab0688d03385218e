// MirrorRole: where its content comes from, and versions that others hand on.
#include "bus/peer/refused.hpp"
#include "services/mirror/handed_on.hpp"
#include "services/mirror/mirror_role.hpp"

#include <algorithm>
#include <utility>

namespace mirrorbus::mirror {

using namespace std::chrono_literals;

// ---- from others ----

SourceTalk::Standing MirrorRole::standing() const {
  SourceTalk::Standing now{committed_number_, head(), origin_, false,
                           state_ != TreeState::Incomplete};
  if (!origin_) return now;
  for (const peer::StreamInfo& info : context_.subscriber->streams())
    if (info.id == *origin_)
      now.hears_origin = info.state != peer::StreamState::Joining &&
                         info.head_age < settings_.stale_after;
  return now;
}

std::optional<std::string> MirrorRole::origin_content() const {
  if (!origin_) return std::nullopt;
  const proto::Credential* credential = context_.subscriber->current_credential(*origin_);
  if (!credential) return std::nullopt;
  const auto url = credential->endpoint(proto::EndpointKind::Content);
  return url.empty() ? std::nullopt : std::optional(std::string(url));
}

// The origin's, then those of others who have what is wanted, then those that are configured. An
// origin that is not heard cannot be reached for content either, most likely: it comes last.
std::vector<SourceList::Named> MirrorRole::all_sources() const {
  std::vector<SourceList::Named> places;
  for (const SourceTalk::Heard& heard : talk_->having(head()))
    places.push_back({heard.said.content, reach_of(heard)});
  const auto configured = SourceList::configured(settings_.source);
  places.insert(places.end(), configured.begin(), configured.end());
  if (const auto origin = origin_content())
    places.insert(standing().hears_origin ? places.begin() : places.end(),
                  {*origin, SourceReach::anywhere()});
  return not_ourselves(std::move(places));
}

std::vector<SourceList::Named> MirrorRole::named_by(const SourceTalk::Heard& heard) const {
  std::vector<SourceList::Named> places;
  for (const std::string& url : heard.said.sources) places.push_back({url, reach_of(heard)});
  return not_ourselves(std::move(places));
}

std::vector<SourceList::Named> MirrorRole::not_ourselves(
    std::vector<SourceList::Named> places) const {
  std::erase_if(places, [&](const auto& place) { return place.url == context_.content; });
  return places;
}

SourceReach MirrorRole::reach_of(const SourceTalk::Heard& heard) const {
  return SourceReach::named_at(heard.from).also(settings_.source_ranges);
}

std::unique_ptr<ManySources> MirrorRole::new_source(std::uint64_t version) {
  return std::make_unique<ManySources>(
      sources_,
      [this, version, again = false](const std::string& trouble) mutable {
        return place(version, std::exchange(again, true), trouble);
      },
      &line_);
}

// On the worker, when the first content is wanted, and again when what was named has not sent it:
// waits until it is said where to pull from.
std::vector<std::string> MirrorRole::place(std::uint64_t version, bool again,
                                           const std::string& trouble) {
  const auto places = std::make_shared<std::promise<std::vector<std::string>>>();
  auto answer = places->get_future();
  context_.loop.post([this, alive = std::weak_ptr(alive_), version, again, trouble, places] {
    if (alive.expired()) return;
    if (again) pass_over(version, trouble);
    ask_place(version, again, places);
  });
  while (answer.wait_for(50ms) != std::future_status::ready)
    if (cancel_) throw tree::Cancelled();
  return answer.get();
}

void MirrorRole::pass_over(std::uint64_t version, const std::string& trouble) {
  if (const std::string who = talk_->came_to_nothing(); !who.empty())
    log_.notice("version {}: not all has come from where {} said{}{}; asking others", version, who,
                trouble.empty() ? "" : ": ", trouble);
}

void MirrorRole::ask_place(std::uint64_t version, bool again, const Places& places) {
  if (stopping_ || paused_)
    return places->set_exception(std::make_exception_ptr(tree::Cancelled()));
  talk_->ask_to_pull(version, [this, version, again,
                               places](std::optional<SourceTalk::Heard> heard) {
    using Pull = proto::HaveAnswer::Pull;
    const proto::HaveAnswer* const said = heard ? &heard->said : nullptr;
    if (said && said->pull == Pull::Later) {
      place_.start(std::chrono::milliseconds(std::max<std::uint64_t>(said->again_ms, 100)),
                   [this, version, again, places] { ask_place(version, again, places); });
      return;
    }
    const bool others = said && said->pull == Pull::Others;
    if (again)
      sources_.add(others ? named_by(*heard) : all_sources());
    else
      sources_.set(others ? sent_to(*heard) : all_sources());
    std::vector<std::string> order = sources_.order();
    if (again && said && source_->has_all(order)) {  // nothing that has not failed already
      pass_over(version, {});
      return ask_place(version, again, places);
    }
    log_.info("version {}: {}; {}", version,
              !said    ? "nobody says where to pull it from"
              : others ? "sent to others that have it"
                       : "may be pulled where it was asked for",
              again           ? "going on there"
              : order.empty() ? "first from nowhere"
                              : "first from " + order.front());
    places->set_value(std::move(order));
  });
}

// Those who sent us on are not asked themselves, unless it comes to nothing.
std::vector<SourceList::Named> MirrorRole::sent_to(const SourceTalk::Heard& heard) const {
  std::vector<SourceList::Named> places = named_by(heard);
  const auto all = all_sources();
  places.insert(places.end(), all.begin(), all.end());
  const auto origin = origin_content();
  const auto spared = [&](const SourceList::Named& place) {
    return place.url == heard.said.content || (origin && place.url == *origin);
  };
  if (!std::ranges::all_of(places, spared)) std::erase_if(places, spared);
  return places;
}

// ---- versions that others hand on ----

void MirrorRole::ask_handed_on(const std::string& endpoint, std::uint64_t number) {
  context_.subscriber->ask_at(
      endpoint, "tree", {{"name", settings_.name}, {"number", number}},
      [this, endpoint](proto::Decoded<proto::Answer> answer, const std::string&) {
        if (!stopping_ && answer && !answer->refused && !answer->parts.empty())
          take_handed_on(endpoint, *answer);
      });
}

void MirrorRole::offer_sealer(const std::string& endpoint, const proto::Answer& answer) {
  const auto sealer = sealer_of(answer.parts.front());
  if (sealer && !context_.subscriber->sealed_credential(*sealer))
    context_.subscriber->offer_credential(answer.parts[1], endpoint);
}

// If the credential is new it is checked first: the event is asked for again when it is believed.
void MirrorRole::take_handed_on(const std::string& endpoint, const proto::Answer& answer) {
  if (answer.parts.size() == 2) offer_sealer(endpoint, answer);
  const proto::Bytes& frame = answer.parts.front();
  const auto event = context_.subscriber->inspect(frame, origin_);
  if (event && event->topic == context_.update_topic(settings_.name))
    on_update(event->stream, event->name, event->body, frame);
  else if (!event && event.error() != proto::Reject::UnknownCredential)
    peer::count_refused(context_.registry, event.error());
}

}  // namespace mirrorbus::mirror
