#include "services/mirror/tree_role.hpp"

namespace mirrorbus::mirror {

std::string_view to_string(TreeState state) noexcept {
  constexpr std::string_view kNames[] = {"starting", "scanning",  "current", "fetching",
                                         "applying", "verifying", "paused",  "refused",
                                         "incomplete", "stale",   "fork",    "failed"};
  return kNames[static_cast<std::size_t>(state)];
}

proto::Value to_value(const TreeStatus& s) {
  proto::Array sources;
  for (const SourceList::Place& place : s.sources)
    sources.push_back(proto::Map{{"url", place.url},
                                 {"state", to_string(place.state)},
                                 {"bytes", place.bytes},
                                 {"bad_items", place.bad_items},
                                 {"last_error", place.last_error}});
  return proto::Map{{"name", s.name},
                    {"role", s.role},
                    {"path", s.path},
                    {"version", s.version},
                    {"head_version", s.head_version},
                    {"tree_hash", to_hex(s.tree_hash)},
                    {"state", to_string(s.state)},
                    {"lag_seconds", s.lag_seconds},
                    {"source", s.source},
                    {"sources", std::move(sources)},
                    {"fidelity", s.fidelity},
                    {"bytes_received", s.bytes_received},
                    {"bytes_sent", s.bytes_sent},
                    {"last_sync_seconds", s.last_sync_seconds},
                    {"last_error", s.last_error},
                    {"hook_error", s.hook_error},
                    {"progress", s.progress},
                    {"phase", s.phase},
                    {"bytes_done", s.bytes_done},
                    {"bytes_total", s.bytes_total},
                    {"files_done", s.files_done},
                    {"files_total", s.files_total}};
}

void TreeRole::wait(std::uint64_t number, peer::ControlReply reply) {
  if (committed_ >= number)
    reply(proto::Value(committed_));
  else
    waiting_.emplace(number, std::move(reply));
}

void TreeRole::committed(std::uint64_t number) {
  committed_ = number;
  while (!waiting_.empty() && waiting_.begin()->first <= number)
    waiting_.extract(waiting_.begin()).mapped()(proto::Value(number));
}

// Where others reach the content listener that `peer` advertises as `url`: at the address that was
// seen, so that nobody can send our mirrors to a third party. Over a local socket there is none.
std::string seen_content(const std::string& url, const std::string& peer) {
  constexpr std::string_view kHttp = "http://";
  if (peer.starts_with(':') || url.empty()) return url;
  if (!url.starts_with(kHttp)) return {};
  const std::size_t slash = std::min(url.find('/', kHttp.size()), url.size());
  const std::size_t colon = url.rfind(':', slash);
  const std::string port =
      colon != url.npos && colon >= kHttp.size() && url.find(']', colon) >= slash
          ? url.substr(colon, slash - colon)
          : "";
  const std::string host = peer.find(':') == peer.npos ? peer : "[" + peer + "]";
  return std::string(kHttp) + host + port + url.substr(slash);
}

void TreeRole::have(const proto::HaveRequest& request, const std::string& peer, base::Now now,
                    peer::ServeReply reply) {
  PullDesk::Verdict verdict =
      desk_.said({net::neighbourhood(peer), request.run}, request.number, request.want,
                 seen_content(request.content, peer), committed_, now.mono);
  proto::HaveAnswer answer;
  answer.number = committed_;
  answer.content = content_url();
  answer.pull = verdict.pull;
  answer.sources = std::move(verdict.sources);
  std::erase_if(answer.sources, [](const std::string& url) {
    return url.empty() || url.size() > proto::kMaxUrlSize;
  });
  answer.again_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(verdict.again).count());
  proto::Answer out;
  out.fields = proto::to_fields(answer);
  reply(std::move(out));
}

proto::Array version_list(const tree::Index& index) {
  proto::Array list;
  for (const std::uint64_t number : index.version_numbers())
    if (const auto version = index.version(number))
      list.push_back(version_value(version->record, version->pack, version->incomplete, true));
  return list;
}

proto::Value version_value(const proto::VersionRecord& record,
                           const std::optional<proto::PackRef>& pack, bool incomplete,
                           bool retained) {
  return proto::Map{{"number", record.number},
                    {"tree_hash", to_hex(record.tree_hash)},
                    {"time_ns", record.time_ns},
                    {"entries", record.counts.entries},
                    {"files", record.counts.files},
                    {"directories", record.counts.directories},
                    {"symlinks", record.counts.symlinks},
                    {"bytes", record.counts.bytes},
                    {"pack_bytes", pack ? pack->size : 0},
                    {"incomplete", incomplete},
                    {"retained", retained}};
}

void answer(peer::ControlReply& reply, base::Outcome<proto::Value> outcome) {
  if (outcome)
    reply(std::move(*outcome));
  else
    reply.fail(what_failed(outcome.error()));
}

std::string what_failed(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& cause) {
    return base::describe(cause);
  } catch (...) {
    return "unknown failure";
  }
}

}  // namespace mirrorbus::mirror
