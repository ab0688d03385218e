// A tree that is published from this machine: finds out what changed, closes versions, keeps what
// mirrors will ask for. Knows nothing of sockets; what it says is published by its owner.
//
// Blocking; one thread at a time. What throws is trouble of this machine: the work folder, the index,
// the store, the root. What goes wrong with single entries is in the reports.
//
// Order of a new version, so that a crash at any point leaves the old one or the new one: pack and
// contents are durable → the version is in the index, unannounced → its owner publishes the event →
// mark_announced(). What is unannounced at the start is announced then; doing it twice is no harm.
#pragma once

#include "bus/base/clock.hpp"
#include "proto/tree_update.hpp"
#include "services/tree/boot.hpp"
#include "services/tree/content_store.hpp"
#include "services/tree/disk_time.hpp"
#include "services/tree/index.hpp"
#include "services/tree/kept_check.hpp"
#include "services/tree/late_links.hpp"
#include "services/tree/pack_writer.hpp"
#include "services/tree/retention.hpp"
#include "services/tree/scan.hpp"
#include "services/tree/work_folder.hpp"
#include "services/tree/version_changes.hpp"

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mirrorbus::tree {

struct OriginSettings {
  std::string name;        // of the tree
  std::string path;        // of its root
  std::string work;        // empty: WorkFolder's default
  std::string index_file;  // empty: in the work folder
  StoreKind store = StoreKind::Auto;
  ScanSettings scan;
  bool hold_on_unreadable = false;  // no version is closed while entries cannot be read
  Retention retain;
  base::Duration gc_grace = std::chrono::hours(24);
  bool inline_packs = true;  // small ones are part of the update event, which all on the bus hear
  bool durable = true;
  std::string boot = current_boot();
};

class OriginTree {
 public:
  explicit OriginTree(OriginSettings settings);
  ~OriginTree();

  const OriginSettings& settings() const { return settings_; }
  const WorkFolder& work() const { return work_; }
  const ContentStore& store() const { return store_; }
  const Index& index() const { return index_; }
  const std::string& index_file() const { return index_file_; }

  std::optional<StoredVersion> newest() const { return index_.newest(); }

  // ---- noticing
  // Entries that could not be read at the last look are looked at again every time.
  ScanReport scan_all(bool careful, const WorkControl& control = {});
  ScanReport scan_some(const std::vector<Bytes>& directories, const std::vector<Bytes>& trees,
                       const WorkControl& control = {});

  // ---- closing
  struct Closing {
    enum class State {
      Unchanged,  // the tree is the newest version
      Closed,     // `version` is new, unannounced
      NoRoot,     // the last scan found no tree: nothing is published
      Held,       // entries cannot be read, and that holds versions back
      Deferred,   // only directories' times differ, and the newest version is younger than a minute
      Unready,    // no scan has been finished yet
    };
    State state = State::Unchanged;
    std::optional<StoredVersion> version;
    PackStats pack;
    std::uint64_t changes = 0;
  };
  // From what scans found. `now` is the version's time. `asked`: by an operator, who gets a version for
  // directories' times, too.
  Closing close_version(base::WallTime now, bool asked, const WorkControl& control = {});

  // ---- announcing
  std::vector<std::uint64_t> unannounced() const { return index_.unannounced(); }
  // `sealed`: the event as it was published; kept and handed to whoever asks.
  void mark_announced(std::uint64_t number, ByteView sealed) {
    index_.mark_announced(number, sealed);
  }

  // ---- history
  // An origin whose state was lost, or is an older copy, goes on after the last version anybody knows
  // of: the next one is closed whatever has changed. std::runtime_error if it is of another tree, or
  // not later than the newest one here.
  void continue_after(const proto::VersionRecord& last);
  // What version `number` changed, from the `skip`-th on, at most `limit`. Nothing if it, or the one
  // before it, is not retained.
  std::optional<ChangePage> changes(std::uint64_t number, std::uint64_t skip,
                                    std::size_t limit) const;
  // ---- going back
  // Makes the tree what version `number` was, from what is held here; then it is to be scanned and
  // closed, as a version with an old tree hash. Rollback::to() says what it throws. To be called when
  // the tree is the newest version; changes that are in no version are lost.
  void roll_back(std::uint64_t number, const WorkControl& control = {});
  // One that was begun and not finished, which is to be called again first of all; 0: none.
  std::uint64_t unfinished_rollback() const;
  // The tree is left as it is.
  void give_up_rollback();

  // Forgets versions beyond what is to be retained, and their packs.
  void retain(base::WallTime now);
  // What a check beside the engine found: packs and contents that have rotted are removed, contents
  // that the tree has are held again. False if there is more: that is not ours to mend.
  bool mend(const KeptReport& found);
  // Drops contents that no retained version and no open one has had for gc_grace. Goes through index
  // and store: for a quiet hour. Returns how many.
  std::uint64_t collect_garbage(base::WallTime now, const WorkControl& control = {});

  // What closing a version left to be done at leisure, in steps of about a tenth of a second: links
  // are taken, and space is given back that replaced contents and the index no longer need. Whether
  // more is left.
  bool tidy();

  // What was hashed since the last sync of the tree's filesystem: sync `filesystem` (any thread; it
  // takes as long as it takes), then call synced(at). Nothing if there is no need.
  struct Unsynced {
    base::Fd filesystem;
    timespec at{};
  };
  std::optional<Unsynced> unsynced();
  void synced(const timespec& at);

  std::string pack_path(const Hash& pack) const;

 private:
  Closing close_in_batch(base::WallTime now, bool asked, const WorkControl& control);
  void take_report(const ScanReport& report);
  std::optional<Bytes> read_live(const FileRef& file) const;
  base::Fd open_live(const FileRef& file) const;
  proto::TreeId tree_id();
  // What continue_after() was told, while no version of ours follows it.
  std::optional<proto::VersionRecord> version_elsewhere(
      const std::optional<StoredVersion>& newest) const;

  const OriginSettings settings_;
  WorkFolder work_;
  std::string index_file_;
  std::string packs_;
  Index index_;
  ContentStore store_;
  LateLinks late_links_;
  Scanner scanner_;
  DiskTime disk_time_;
  bool hashed_ = true;  // since the last sync, as far as is known
  bool scanned_ = false;
  ScanReport::Root root_ = ScanReport::Root::Present;
  std::uint64_t kept_ = 0;           // entries that stand as they were
  std::set<Bytes> troubled_;         // their directories
  bool too_many_troubles_ = false;   // to look at each
};

}  // namespace mirrorbus::tree
