// One verify() of a MirrorTree: a plan to the version that is committed already, made without
// believing any lstat. What it would do is what is wrong. Internal.
#pragma once

#include "services/tree/mirror_job.hpp"

namespace mirrorbus::tree {

class VerifyRun {
 public:
  // `control` is only told how far it is.
  VerifyRun(const MirrorSettings& settings, Index& index, const WorkControl& control);
  VerifyResult verify();

 private:
  void set_target();
  void differs(Bytes path, std::string what);
  void all(const Plan& plan, LiveTree& live, const std::vector<Plan::Op>& ops,
           const std::string& what);
  void compare(const Plan& plan, LiveTree& live);

  const WorkControl& control_;
  MirrorJob job_;
  VerifyResult result_;
};

}  // namespace mirrorbus::tree
