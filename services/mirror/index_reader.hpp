// A tree's index as others ask about it: read on a thread and with a connection of its own, so that
// an answer waits for no scan and no sync. Loop thread; jobs run on the reader's, in their order.
#pragma once

#include "bus/base/pool.hpp"
#include "services/tree/index.hpp"

#include <memory>
#include <string>
#include <utility>

namespace mirrorbus::mirror {

class IndexReader {
 public:
  // The file is there before the first job.
  IndexReader(base::Loop& loop, std::string file)
      : file_(std::move(file)), thread_(loop, 1) {}

  // As WorkerPool::submit(); `job(index)`.
  template <class Job, class Done>
  void submit(Job job, Done done) {
    thread_.submit([this, job = std::move(job)]() mutable { return job(index()); },
                   std::move(done));
  }

 private:
  const tree::Index& index() {
    if (!index_)
      index_ = std::make_unique<tree::Index>(file_, tree::Index::Options{.read_only = true});
    return *index_;
  }

  const std::string file_;
  std::unique_ptr<tree::Index> index_;  // the thread's
  base::WorkerPool thread_;
};

}  // namespace mirrorbus::mirror
