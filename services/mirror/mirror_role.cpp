#include "services/mirror/mirror_role.hpp"

#include "services/mirror/fidelity.hpp"

#include <sys/stat.h>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

tree::MirrorSettings engine_settings(const TreeSettings& settings, const std::string& work,
                                     bool serving) {
  tree::MirrorSettings engine;
  engine.path = settings.path;
  engine.work = work;
  engine.metadata.owner = owner_mode(settings.owner);
  if (settings.devices) engine.metadata.devices = *settings.devices;
  if (settings.nodev) engine.metadata.devices = false;
  engine.metadata.filter = path_filter(settings);
  engine.metadata.safe_links = settings.safe_links;
  engine.metadata.nosuid = settings.nosuid;
  if (const auto mode = tree::xattr_mode(settings.xattrs)) engine.metadata.xattrs = *mode;
  engine.last = settings.last;
  if (settings.max_delete) engine.max_delete = {*settings.max_delete, 0};
  engine.min_free_bytes = settings.min_free;
  engine.adopt = settings.adopt;
  engine.subtree = settings.subtree;
  engine.snapshot = settings.snapshot;
  engine.retain = settings.retain;
  engine.keep_packs_bytes = serving ? settings.keep_packs : 0;
  return engine;
}

// A mirror that is to be filled begins as an empty directory; the one above it must be there.
bool by_link(const TreeSettings& settings) {
  return settings.snapshot || !settings.subtree.empty();
}

// Where it is a link, there is none before there is something to show.
const std::string& with_directory(const TreeSettings& settings) {
  const std::string& path = settings.path;
  if (!by_link(settings) && ::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
    base::throw_errno("making the tree's directory " + path);
  return path;
}

}  // namespace

MirrorRole::Engine::Engine(const TreeSettings& settings, const std::string& index_file,
                           bool serving)
    : work(with_directory(settings), settings.name, settings.work,
           by_link(settings) ? tree::WorkFolder::Mount::Link : tree::WorkFolder::Mount::Same),
      index(index_file),
      tree(engine_settings(settings, work.path(), serving), index),
      diffs(index) {}

MirrorRole::Metrics::Metrics(base::Registry& r, const std::string& tree)
    : version(r.gauge("mirrorbus_tree_version", "Version committed.", {"tree", tree})),
      head_version(r.gauge("mirrorbus_tree_head_version", "Newest version known.", {"tree", tree})),
      lag(r.gauge("mirrorbus_tree_lag_seconds", "Age of the oldest version not yet committed.",
                  {"tree", tree})),
      syncs(r.counter("mirrorbus_tree_syncs_total", "Versions brought in.", {"tree", tree})),
      failures(r.counter("mirrorbus_tree_sync_failures_total", "Syncs that failed.",
                         {"tree", tree})),
      refused(r.counter("mirrorbus_tree_updates_refused_total",
                        "Updates and versions that were not taken.", {"tree", tree})),
      received(r.counter("mirrorbus_tree_received_bytes_total", "Content received.",
                         {"tree", tree})),
      bad_items(r.counter("mirrorbus_tree_bad_items_total",
                          "Things that a source sent and were no good, or did not send.",
                          {"tree", tree})),
      set_aside(r.counter("mirrorbus_tree_sources_set_aside_total",
                          "Times that a source was set aside for bad items.", {"tree", tree})) {}

MirrorRole::MirrorRole(const TreeContext& context, const TreeSettings& settings)
    : TreeRole(settings),
      context_(context),
      log_(context.log.area("tree " + settings.name)),
      sources_(context.loop.clock()),
      line_(context.rates, context.rates.add(settings.rates, settings.priority),
            context.loop.clock(), context.dscp, context.authorities),
      holder_(std::make_shared<TreeHolder>()),
      metrics_(context.registry, settings.name),
      retry_(context.loop),
      every_second_(context.loop),
      place_(context.loop),
      place_check_(context.loop),
      sweep_(context.loop),
      hooks_(context_, settings_, log_, worker_,
             [this]() -> const tree::Index& { return engine_->index; }),
      seals_(context_, settings_, log_, worker_,
             [this]() -> tree::Index& { return engine_->index; }),
      worker_(context.loop, 1) {
  talk_ = std::make_unique<SourceTalk>(
      context.loop, *context.subscriber, settings.name, context.run, context.content,
      SourceTalk::Handlers{[this] { return standing(); },
                           [this](const std::string& endpoint, std::uint64_t number) {
                             ask_handed_on(endpoint, number);
                           }});
  measure();
  open();
}

MirrorRole::~MirrorRole() { stop(); }

void MirrorRole::stop() {
  stopping_ = true;
  cancel_ = true;
  talk_->stop();
  seals_.stop();
  if (source_) source_->cancel();
}

// ---- opening ----

void MirrorRole::open() {
  busy_ = true;
  worker_.submit(
      [this, file = context_.index_file(settings_.name)] {
        Opened found;
        found.engine = std::make_unique<Engine>(settings_, file, context_.serving);
        found.engine->tree.settle();
        if (settings_.snapshot) found.pinned = find_pinned(*found.engine);
        found.committed = found.engine->tree.committed();
        found.stream = found.engine->index.setting(kStreamKey);
        found.warning = found.engine->work.warning();
        return found;
      },
      [this](base::Outcome<Opened> found) {
        busy_ = false;
        if (found) return opened(std::move(*found));
        state_ = TreeState::Failed;
        last_error_ = what_failed(found.error());
        log_.error("cannot be opened, trying again in {} s: {}",
                   std::chrono::duration_cast<std::chrono::seconds>(kDiskAgain).count(),
                   last_error_);
        retry_.start(kDiskAgain, [this] { open(); });
      });
}

void MirrorRole::opened(Opened found) {
  engine_ = std::move(found.engine);
  seals_.opened();
  holder_->open(context_.index_file(settings_.name), engine_->work.path(),
                engine_->tree.settings().root());
  if (!found.warning.empty()) log_.warning("{}", found.warning);
  if (found.stream && found.stream->size() == proto::Hash::kSize)
    origin_ = proto::Hash::from_bytes(*found.stream);
  if (found.committed) {
    committed_number_ = found.committed->record.number;
    committed_record_ = found.committed->record;
    lacking_ = found.committed->incomplete;
    state_ = at_rest();
    metrics_.version.set(static_cast<double>(committed_number_));
    committed(committed_number_);
  }
  if (found.pinned) pinned(std::move(*found.pinned));
  sweep_later(false);
  log_.info("at version {}", committed_number_);
  if (lacking_) retry_.start(kDiskAgain, [this] { mend(); });
  for (const auto& [stream, name] : publishers_) ask_newest(stream);
  if (origin_ && found.committed && found.committed->sealed.empty())
    seals_.want(*origin_, *committed_record_);
  consider();
}

}  // namespace mirrorbus::mirror
