#include "services/relay/zmq_door.hpp"

namespace mirrorbus::relay {

ZmqDoor::ZmqDoor(base::Loop& loop, net::ZmqContext& context,
                 const std::vector<std::string>& endpoints, Intake& intake,
                 base::Registry& registry, base::Log log)
    : intake_(intake), server_(loop, context, registry) {
  server_.add("submit",
              [this](const proto::Request& request, const std::string& peer,
                     peer::ServeReply reply) { submit(request, peer, std::move(reply)); });
  for (const std::string& endpoint : endpoints)
    log.area("relay").info("taking submissions on {}", server_.bind(endpoint));
}

void ZmqDoor::submit(const proto::Request& request, const std::string& peer,
                     peer::ServeReply reply) {
  const auto refuse = [&](proto::Reject why) {
    intake_.count_refused(why);
    reply.refuse(why);
  };
  auto submission = proto::submission(request.args);
  if (!submission) return refuse(submission.error());
  std::string token;
  if (const proto::Value* shown = request.args.find("token")) {
    if (!shown->as_text()) return refuse(proto::Reject::WrongType);
    token = intake_.rules().tokens.name_of(*shown->as_text());
  }
  auto body = proto::unpack(submission->body);
  if (!body) return refuse(body.error());
  if (!body->as_map()) return refuse(proto::Reject::WrongType);
  intake_.submit(Client::over_zeromq(peer, std::move(token)),
                 {proto::SubmissionName{std::move(submission->sender), submission->n},
                  std::move(submission->topic), std::get<proto::Map>(std::move(body->data))},
                 [stream = intake_.stream(), reply = std::move(reply)](
                     std::expected<std::uint64_t, Refusal> result) mutable {
                   if (!result) return reply.refuse(result.error().why, result.error().after_ms);
                   proto::Answer answer;
                   answer.fields = proto::Map{{"seq", *result}, {"stream", stream}};
                   reply(std::move(answer));
                 });
}

}  // namespace mirrorbus::relay
