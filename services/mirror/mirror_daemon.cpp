#include "services/mirror/mirror_daemon.hpp"

#include "services/mirror/kept_run.hpp"
#include "services/mirror/origin_role.hpp"

#include <algorithm>

namespace mirrorbus::mirror {
namespace {

using namespace std::chrono_literals;

const peer::Settings& publishing(const peer::Settings& settings) {
  if (settings.bus.publish.empty())
    throw std::runtime_error("[bus] publish is needed: origins and mirrors say what they do");
  return settings;
}

std::unique_ptr<ContentServer> content_server(peer::Daemon& daemon, int dscp) {
  if (daemon.settings().content.listen.empty()) return nullptr;
  return std::make_unique<ContentServer>(daemon.loop().clock(), daemon.settings().content,
                                         daemon.metrics(), daemon.log("content"), dscp);
}

}  // namespace

MirrorDaemon::Settings MirrorDaemon::read(const base::Config& config,
                                          const peer::Settings& shared) {
  Settings settings{TreeSettings::read(config),
                    TransferSettings::read(config.table("transfer"))};
  for (const TreeSettings& tree : settings.trees)
    if (tree.role == TreeSettings::Role::Origin && shared.content.listen.empty())
      throw base::ConfigError("[content] listen is needed: tree " + tree.name +
                              " is an origin, and mirrors pull from there");
  return settings;
}

MirrorDaemon::MirrorDaemon(peer::Daemon& daemon, Settings settings)
    : daemon_(daemon),
      settings_(std::move(settings)),
      run_(kept_run(daemon.state() / "run", daemon.log(""))),
      rates_(settings_.transfer.rates),
      content_(content_server(daemon, settings_.transfer.dscp)),
      serve_(daemon.loop(), daemon.zmq(), daemon.metrics()),
      publisher_(
          daemon.loop(), daemon.zmq(), publishing(daemon.settings()), serve_,
          daemon.settings().bus.serve.empty() ? "" : serve_.bind(daemon.settings().bus.serve),
          content_url(), daemon.metrics(), daemon.log(""),
          [&daemon](std::exception_ptr error) { daemon.fail(what_failed(error)); }),
      sources_(daemon.loop(), daemon.settings().discovery, daemon.state() / "discovery.json",
               daemon.metrics(), daemon.log("discovery")),
      idle_(daemon.loop()) {
  subscribe();
  elsewhere_ = known_elsewhere();
  add_trees(settings_);
  status_files_ = std::make_unique<StatusFiles>(daemon.loop(), daemon.log("status"), trees_);
  add_verbs();
  add_serve_verbs();
  if (content_) {
    content_->start();
    daemon.add_loop("content", content_->loop());
  }
  daemon.add_ready_check("publisher", [this] { return publisher_.problem(); });
  publisher_.on_ready([this] {
    proto::Array endpoints{publisher_.endpoint()};
    publisher_.publish(
        daemon_.settings().bus.base() + ".bus.publisher.start",
        proto::Map{{"software", "bus-mirrord"}, {"endpoints", std::move(endpoints)}});
  });
}

MirrorDaemon::~MirrorDaemon() {
  for (const auto& tree : trees_) tree->stop();
}

std::string MirrorDaemon::content_url() const {
  if (!content_) return "";
  // As configured, with the port that was really bound; every address is for the operator to name.
  const std::string& listen = daemon_.settings().content.listen;
  const std::string host = listen.substr(0, listen.rfind(':'));
  if (host.empty() || host == "0.0.0.0" || host == "[::]") return "";
  return "http://" + host + ":" + std::to_string(content_->port());
}

std::string MirrorDaemon::advertised_content() const {
  const std::string& configured = daemon_.settings().bus.advertise_content;
  return configured.empty() ? content_url() : configured;
}

void MirrorDaemon::subscribe() {
  peer::SubscriberOptions options;
  for (const TreeSettings& tree : settings_.trees)
    if (tree.role == TreeSettings::Role::Mirror)
      options.patterns.push_back(
          *proto::TopicPattern::parse(update_topic(daemon_.settings().bus.base(), tree.name)));
  if (options.patterns.empty()) return;
  options.gap_after = daemon_.settings().bus.gap_after;
  peer::Subscriber::Handlers handlers;
  handlers.on_event = [this](const peer::Delivery& event) {
    for (MirrorRole* mirror : mirrors_)
      if (event.topic == update_topic(daemon_.settings().bus.base(), mirror->settings().name))
        mirror->on_update(event.stream_id, event.stream, event.body, event.frame);
    return peer::Outcome::Delivered;
  };
  handlers.on_credential = [this](const proto::Hash& stream, const proto::Credential& credential) {
    for (MirrorRole* mirror : mirrors_) mirror->on_credential(stream, credential);
  };
  handlers.on_head = [this](const proto::Head& head) { publisher_.heard(head); };
  subscriber_ = std::make_unique<peer::Subscriber>(
      daemon_.loop(), daemon_.zmq(), std::move(options), daemon_.settings().trust,
      daemon_.settings().bus.state + "/cursor.sqlite", daemon_.metrics(), daemon_.log(""),
      std::move(handlers));
  sources_.tell(*subscriber_);
}

std::unique_ptr<KnownElsewhere> MirrorDaemon::known_elsewhere() {
  const auto is_origin = [](const TreeSettings& tree) {
    return tree.role == TreeSettings::Role::Origin;
  };
  if (std::ranges::none_of(settings_.trees, is_origin)) return nullptr;
  return std::make_unique<KnownElsewhere>(daemon_.loop(), daemon_.zmq(), daemon_.settings(),
                                          publisher_.name(), sources_);
}

void MirrorDaemon::add_trees(const Settings& settings) {
  const TreeContext context{daemon_.loop(),        publisher_,
                            subscriber_.get(),     daemon_.metrics(),
                            daemon_.log(""),       daemon_.settings().bus.base(),
                            daemon_.settings().bus.state,
                            advertised_content(),
                            rates_,
                            settings_.transfer.dscp,
                            settings_.transfer.authorities,
                            content_ != nullptr,
                            run_,
                            elsewhere_.get()};
  for (const TreeSettings& tree : settings.trees) {
    if (tree.role == TreeSettings::Role::Origin) {
      auto origin =
          std::make_unique<OriginRole>(context, tree, [this] { return content_->bytes_sent(); });
      content_->add(origin->holder(), tree.serve_to);
      trees_.push_back(std::move(origin));
    } else {
      auto mirror = std::make_unique<MirrorRole>(context, tree);
      if (content_) content_->add(mirror->holder(), tree.serve_to);
      mirrors_.push_back(mirror.get());
      trees_.push_back(std::move(mirror));
    }
  }
}

TreeRole* MirrorDaemon::find(const std::string& name) const {
  const auto it =
      std::ranges::find(trees_, name, [](const auto& tree) { return tree->settings().name; });
  return it == trees_.end() ? nullptr : it->get();
}

void MirrorDaemon::on_tree(const proto::Value& request, peer::ControlReply reply,
                           const TreeVerb& act) {
  const auto name = proto::field<std::string>(request, "tree");
  if (!name) return reply.fail("the request names no tree");
  TreeRole* tree = find(*name);
  if (tree) return act(*tree, request, std::move(reply));
  std::string names;
  for (const auto& known : trees_) names += (names.empty() ? "" : ", ") + known->settings().name;
  reply.fail("no tree \"" + *name + "\" here; trees: " + (names.empty() ? "none" : names));
}

void MirrorDaemon::add_verbs() {
  const auto verb = [this](const char* name, TreeVerb act) {
    daemon_.control().add(name, [this, act = std::move(act)](const proto::Value& request,
                                                             peer::ControlReply reply) {
      on_tree(request, std::move(reply), act);
    });
  };
  daemon_.control().add("status", [this](const proto::Value&, peer::ControlReply reply) {
    proto::Array list;
    for (const auto& tree : trees_) list.push_back(to_value(tree->status()));
    reply(proto::Value(std::move(list)));
  });
  verb("publish", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.publish(std::move(reply));
  });
  verb("versions", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.versions(std::move(reply));
  });
  verb("sync", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.sync(std::move(reply));
  });
  verb("import", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.import(std::move(reply));
  });
  verb("diff", [](TreeRole& tree, const proto::Value& request, peer::ControlReply reply) {
    const auto from = proto::field<std::uint64_t>(request, "from");
    const auto to = proto::field<std::uint64_t>(request, "to");
    if (!from || !to) return reply.fail("the request names no versions \"from\" and \"to\"");
    tree.diff(*from, *to, page_start(request), std::move(reply));
  });
  verb("dry_run", [](TreeRole& tree, const proto::Value& request, peer::ControlReply reply) {
    tree.dry_run(page_start(request), std::move(reply));
  });
  verb("rollback", [](TreeRole& tree, const proto::Value& request, peer::ControlReply reply) {
    const auto number = proto::field<std::uint64_t>(request, "version");
    if (!number) return reply.fail("the request names no version");
    tree.rollback(*number, std::move(reply));
  });
  verb("adopt", [](TreeRole& tree, const proto::Value& request, peer::ControlReply reply) {
    const auto number = proto::field<std::uint64_t>(request, "version");
    if (!number) return reply.fail("the request names no version");
    const proto::Value* source = request.find("source");
    tree.adopt(*number, source && source->as_text() ? *source->as_text() : "", std::move(reply));
  });
  verb("accept", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.accept(std::move(reply));
  });
  verb("verify", [](TreeRole& tree, const proto::Value& request, peer::ControlReply reply) {
    const proto::Value* repair = request.find("repair");
    tree.verify(repair && repair->as_bool().value_or(false), std::move(reply));
  });
  verb("wait", [](TreeRole& tree, const proto::Value& request, peer::ControlReply reply) {
    const auto number = proto::field<std::uint64_t>(request, "version");
    if (!number) return reply.fail("the request names no version");
    tree.wait(*number, std::move(reply));
  });
  verb("pause", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.pause();
    reply(proto::Value("paused"));
  });
  verb("resume", [](TreeRole& tree, const proto::Value&, peer::ControlReply reply) {
    tree.resume();
    reply(proto::Value("resumed"));
  });
}

void MirrorDaemon::add_serve_verbs() {
  const auto tree_verb = [this](const char* name, auto act) {
    serve_.add(name, [this, act](const proto::Request& request, const std::string&,
                                 peer::ServeReply reply) {
      const auto tree_name = proto::field<std::string>(request.args, "name");
      if (!tree_name) return reply.refuse(tree_name.error());
      TreeRole* tree = find(*tree_name);
      if (!tree) return reply.refuse(proto::Reject::NotHeld);
      std::uint64_t number = 0, skip = 0;
      for (const auto& [key, into] : {std::pair{"number", &number}, std::pair{"skip", &skip}})
        if (const proto::Value* value = request.args.find(key)) {
          if (!value->as_u64()) return reply.refuse(proto::Reject::WrongType);
          *into = *value->as_u64();
        }
      act(*tree, number, skip, std::move(reply));
    });
  };
  serve_.add("have", [this](const proto::Request& request, const std::string& peer,
                            peer::ServeReply reply) {
    const auto said = proto::have_request(request.args);
    if (!said) return reply.refuse(said.error());
    TreeRole* tree = find(said->tree);
    if (!tree) return reply.refuse(proto::Reject::NotHeld);
    if (!net::any_contains(tree->settings().serve_to, peer))
      return reply.refuse(proto::Reject::NotAllowed);
    tree->have(*said, peer, daemon_.loop().now(), std::move(reply));
  });
  tree_verb("tree", [](TreeRole& tree, std::uint64_t number, std::uint64_t,
                       peer::ServeReply reply) { tree.sealed(number, std::move(reply)); });
  tree_verb("changes",
            [](TreeRole& tree, std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) {
              tree.changes(number, skip, std::move(reply));
            });
}

// Trust and the log level; trees come and go with a restart.
base::Task MirrorDaemon::prepare_reload(const peer::Settings& shared, Settings) {
  peer::policy_from(shared.trust);  // throws if it is wrong
  return [this, trust = shared.trust] {
    if (subscriber_) subscriber_->set_trust(trust);
  };
}

void MirrorDaemon::drain(base::Task done) {
  for (const auto& tree : trees_) tree->stop();
  if (publisher_.ready())
    publisher_.publish(daemon_.settings().bus.base() + ".bus.publisher.stop",
                       proto::Map{{"software", "bus-mirrord"}});
  wait_until_idle(std::move(done));
}

void MirrorDaemon::wait_until_idle(base::Task done) {
  const bool idle = publisher_.idle() && publisher_.handed_over() &&
                    std::ranges::all_of(trees_, [](const auto& tree) { return tree->idle(); });
  if (!idle) {
    idle_.start(20ms,
                [this, done = std::move(done)]() mutable { wait_until_idle(std::move(done)); });
    return;
  }
  if (subscriber_) subscriber_->save_cursor();
  done();
}

}  // namespace mirrorbus::mirror
