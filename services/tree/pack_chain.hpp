// Delta packs that lead, one after the other, from the committed version to the target: folded into
// one step. The nodes of every version on the way are put together; of the contents only those that
// the target, or a patch on the way to it, needs are made, and all of them only in staging.
#pragma once

#include "services/tree/content_source.hpp"
#include "services/tree/pack_reader.hpp"
#include "services/tree/pack_shelf.hpp"
#include "services/tree/stager.hpp"
#include "services/tree/target_tree.hpp"

#include <mutex>
#include <vector>

namespace mirrorbus::tree {

struct TargetVersion;

class PackChain {
 public:
  // Packs go on the shelf of the work folder, where MirrorTree::retain() says what stays.
  PackChain(int work, TargetTree& target, const Index& index, const WorkControl& control);
  ~PackChain();

  // Fetches and reads the packs of `versions`, if each follows the one before it, the first one
  // `committed` (nothing: the empty tree). True if `target` is now the last version's tree. False
  // if there is no such chain, or one of its packs is not to be had or no good: then nodes have to
  // be walked.
  bool open(const std::vector<TargetVersion>& versions,
            const std::optional<StoredVersion>& committed, ContentSource& source);

  // A group or a copy of some pack on the way makes this content.
  bool offers(const proto::Hash& content) const;
  // Makes what the stager wants and the packs have. `root` is the tree as it is, which holds the
  // bases.
  void contents(Stager& stager, Staging& staging, const RootDir& root, ContentSource& source);

  // The target is reached: what else was on its way is not needed any more.
  void clear();

 private:
  // What a pack of the chain has to make.
  struct Job {
    std::vector<std::size_t> groups, copies, large;
    std::unordered_set<proto::Hash> wanted;
  };
  std::optional<PackReader> read(const TargetVersion& version, ContentSource& source);
  std::vector<Job> jobs(const Stager& stager) const;
  bool base_is_live(const FileRef& base) const;
  void run(std::size_t pack, const Job& job, Stager& stager, Staging& staging, const RootDir& root,
           ContentSource& source);
  std::optional<proto::Bytes> read_base(const FileRef& base, RootDir& root,
                                        const Staging& staging) const;
  struct OpenBase {
    base::Fd fd;
    std::uint64_t size = 0;
  };
  std::optional<OpenBase> open_base(const FileRef& base, RootDir& root,
                                    const Staging& staging) const;
  std::optional<proto::Reject> put_together(const PackReader& reader, std::size_t large,
                                            PatchDecoder& decoder, RootDir& root,
                                            Stager& stager, Staging& staging);
  void made(const proto::Hash& hash, proto::ByteView content, Stager& stager, Staging& staging);

  TargetTree& target_;
  const Index& index_;
  const WorkControl& control_;
  PackShelf shelf_;
  std::vector<PackReader> readers_;
  std::vector<proto::Hash> hashes_;                             // of the packs
  using Made = std::unordered_map<proto::Hash, std::uint32_t>;  // in staging, by c name
  Made made_;                               // by the packs before the one being read
  Made making_;                             // by that one
  std::unordered_set<proto::Hash> needed_;  // of it, not made yet
  std::mutex mutex_;                        // the two above, and the stager, while groups are read
};

}  // namespace mirrorbus::tree
