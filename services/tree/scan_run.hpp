// One run of a Scanner. See scan.hpp.
#pragma once

#include "services/tree/dir_lister.hpp"
#include "services/tree/hard_links.hpp"
#include "services/tree/scan.hpp"

#include <atomic>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <sys/stat.h>

namespace mirrorbus::tree {

class Scanner::Run {
 public:
  Run(Scanner& scanner, bool full, bool careful, const WorkControl& control);

  ScanReport all();
  ScanReport some(const std::vector<Bytes>& directories, const std::vector<Bytes>& trees);

 private:
  using Inode = HardLinks::Inode;

  // A directory to look at.
  struct Target {
    Bytes path;
    bool deep = false;  // and everything below
  };
  // A name in the directory being looked at.
  struct Item {
    ByteView name;
    struct stat st;
  };
  // A directory whose node differs or may differ: its files are still to be hashed.
  struct Work {
    Bytes path;
    base::Fd dir;
    std::optional<DirectoryRow> old;  // its own row
    std::vector<proto::Entry> entries;
    std::vector<EntryStat> stats;
    struct Note {
      bool changed = false;   // the entry is new or its stat is
      bool left_out = false;  // turned out not to be there, or not to be readable
      std::uint64_t links = 0;
    };
    std::vector<Note> notes;
  };
  // A file to hash. Names of one inode are one job.
  struct Job {
    std::vector<std::pair<Work*, std::size_t>> names;
    std::optional<ContentStore::Before> before;
    std::uint64_t size = 0;
    HoldResult result;
  };
  // What was known of an entry, while going through a row in step with the names.
  struct Known {
    const DirectoryRow* row;
    proto::NodeReader reader;
    proto::Entry entry;
    std::size_t at = 0;  // of `entry`
    bool more = false;

    explicit Known(const DirectoryRow* r);
    bool next();
    const EntryStat& stat() const { return row->stats[at]; }
  };

  bool open_root();
  base::Fd open_directory(const Bytes& path);
  void walk(std::vector<Target> targets);
  void look(const Target& target);
  bool gather(const Target& target, int dir, const std::optional<DirectoryRow>& old);
  static bool has_file(const std::optional<DirectoryRow>& row, ByteView name);
  bool wanted(const Bytes& directory, ByteView name);
  bool as_it_was(const Item& item, const proto::Entry& entry, const EntryStat& stat) const;
  bool all_as_it_was(const Target& target, const DirectoryRow& row);
  void compare(const Target& target, base::Fd dir, std::optional<DirectoryRow> old);
  bool unmounted(const struct stat& now, std::uint64_t known_device) const;
  bool unmounted(const Bytes& path, const struct stat& now) const;
  void add_entry(Work& work, const Item& item, const Known* known);
  void add_file(Work& work, std::size_t at, const Item& item, const Known* known);
  void enter(const Target& parent, const Item& item, const Known* known);
  void take_xattrs(Work& work, std::size_t at, const timespec& tick, bool bare = false);
  bool read_xattrs_of(int dir, const Bytes& name, const Bytes& path, proto::Entry& entry);
  void was_removed(const Bytes& path, const proto::Entry& entry, const EntryStat& stat);

  void hash(unsigned worker);
  void start_hashing();
  void finish_hashing();
  void take_result(Job& job, const timespec& start, const timespec& end);
  void take_failure(const HoldResult& result, Work& work, std::size_t at);
  void settle_batch();
  void finish(Work& work);
  void note_links(const Work& work, std::size_t at);

  void drop_orphans();
  void refresh_parents();
  void settle_failures();
  bool find_linked();
  void staged();
  void begin();
  ScanReport end();

  void problem(ScanProblem::Kind kind, Bytes path, int error);
  void look_again(const Bytes& path) { again_.insert(path); }
  timespec fs_now();

  Scanner& s_;
  Index& index_;
  bool full_, careful_;
  const WorkControl& control_;
  ScanReport report_;

  base::Fd root_;
  struct stat root_stat_ {};
  // Set if the whole tree came back under another device number.
  std::optional<std::uint64_t> old_device_;
  std::uint64_t known_root_device_ = 0;  // the number it had when a scan last ended
  RootRow root_row_;                     // of what there is now …
  bool root_changed_ = false;            // … and not in the index yet
  base::Fd clock_;
  timespec now_{};

  DirLister lister_;
  std::vector<Item> items_;
  std::vector<Target> stack_;  // the next one last
  std::vector<Target> fresh_;  // directories the index does not know yet: after all others
  std::map<Inode, Bytes> removed_;
  std::vector<Bytes> gone_;  // directories that the ones above them no longer have
  // What is being gathered, and what is being hashed meanwhile.
  struct Batch {
    std::deque<Work> works;
    std::deque<Job> jobs;
    std::map<Inode, Job*> linked;
    std::uint64_t bytes = 0;
  };
  struct Hashing {
    Batch batch;
    std::vector<Job*> order;
    timespec start{};
    std::atomic<std::size_t> next = 0;
    std::atomic<bool> failed = false;
    std::exception_ptr failure;
    std::vector<std::jthread> helpers;  // the last member: the others outlive it
    ~Hashing() { failed = true; }
  };
  Batch batch_;
  std::unique_ptr<Hashing> hashing_;
  bool any_links_ = false;
  const bool xattrs_;      // are part of the tree
  bool reread_ = false;    // all of them: others were when it was last looked at
  std::unordered_set<Hash> kept_xattrs_;
  bool has_base_ = false;  // there is a committed version

  // Of a run over some directories: what they are now, for their parents' entries.
  std::map<Bytes, struct stat, proto::PathLess> looked_at_;
  std::vector<std::pair<Bytes, ScanProblem::Kind>> failed_;  // directories that could not be read
  std::map<Inode, std::uint64_t> changed_links_;  // and how many names each should have
  std::set<Bytes> again_;
  std::unique_ptr<Index::Batch> open_batch_;
  std::size_t staged_ = 0;
};

}  // namespace mirrorbus::tree
