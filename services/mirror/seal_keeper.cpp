#include "services/mirror/seal_keeper.hpp"

#include "services/mirror/handed_on.hpp"

namespace mirrorbus::mirror {
namespace {

constexpr base::Duration kAskAgain = std::chrono::seconds(2);
constexpr std::uint32_t kAttempts = 30;

}  // namespace

SealKeeper::SealKeeper(const TreeContext& context, const TreeSettings& settings, base::Log& log,
                       base::WorkerPool& worker, std::function<tree::Index&()> index)
    : context_(context),
      settings_(settings),
      log_(log),
      worker_(worker),
      index_(std::move(index)),
      again_(context.loop),
      reader_(context.loop, context.index_file(settings.name)) {}

std::optional<SealKeeper::Sealer> SealKeeper::sealer_for(proto::ByteView frame) const {
  const auto id = sealer_of(frame);
  if (!id) return std::nullopt;
  auto sealed = context_.subscriber->sealed_credential(*id);
  if (!sealed) return std::nullopt;
  return std::pair(*id, std::move(*sealed));
}

// Once: who hears the same event from many, over and over, must not fill the worker's queue.
void SealKeeper::keep(std::uint64_t number, proto::ByteView frame) {
  if (const proto::Hash hash = proto::sha256(frame);
      !open_ || std::exchange(kept_, hash) == hash)
    return;
  worker_.submit(
      [this, number, frame = proto::Bytes(frame), sealer = sealer_for(frame)] {
        tree::Index& index = index_();
        const auto version = index.version(number);
        if (!version || !version->sealed.empty()) return;
        index.mark_announced(number, frame);
        if (sealer) keep_credential(index, sealer->first, sealer->second);
      },
      [this](base::Outcome<void> done) {
        if (!done)
          log_.warning("a version's seal could not be kept: {}", what_failed(done.error()));
      });
}

void SealKeeper::want(const proto::Hash& stream, const proto::VersionRecord& record) {
  wanted_ = record;
  wanted_of_ = stream;
  ask(0);
}

void SealKeeper::ask(std::uint32_t attempt) {
  if (stopping_ || attempt >= kAttempts) return;
  const std::uint64_t number = wanted_->number;
  context_.subscriber->ask(
      wanted_of_, attempt, "tree", {{"name", settings_.name}, {"number", number}},
      [this, number, attempt](proto::Decoded<proto::Answer> answer, const std::string&) {
        if (stopping_ || number != wanted_->number) return;
        if (answer && take(*answer)) return;
        log_.debug("version {}: its signed event is not to be had yet", number);
        again_.start(kAskAgain, [this, attempt] { ask(attempt + 1); });
      });
}

bool SealKeeper::take(const proto::Answer& answer) {
  if (answer.refused || answer.parts.empty()) return false;
  const auto event = context_.subscriber->inspect(answer.parts.front(), wanted_of_);
  const auto update =
      event ? proto::decode_update(event->body) : proto::refuse(event.error());
  if (!update || event->topic != context_.update_topic(settings_.name) ||
      update->record != *wanted_)
    return false;
  keep(wanted_->number, answer.parts.front());
  return true;
}

void SealKeeper::sealed(std::uint64_t number, peer::ServeReply reply) {
  if (!open_) return reply.refuse(proto::Reject::Busy, 1000);
  reader_.submit([number](const tree::Index& index) { return find_sealed(index, number); },
                 [reply = std::move(reply)](base::Outcome<SealedVersion> found) mutable {
                   answer_sealed(found, std::move(reply));
                 });
}

void SealKeeper::changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) {
  if (!open_) return reply.refuse(proto::Reject::Busy, 1000);
  reader_.submit(
      [number, skip](const tree::Index& index) {
        return tree::version_changes(index, number, skip, kChangesPage);
      },
      [reply = std::move(reply)](base::Outcome<std::optional<tree::ChangePage>> page) mutable {
        answer_changes(page, std::move(reply));
      });
}

}  // namespace mirrorbus::mirror
