#include "services/tree/scan.hpp"

#include "services/tree/scan_run.hpp"

namespace mirrorbus::tree {

std::string_view to_string(ScanProblem::Kind kind) {
  switch (kind) {
    case ScanProblem::Kind::Unreadable: return "unreadable";
    case ScanProblem::Kind::Unstable: return "unstable";
    case ScanProblem::Kind::OtherMount: return "other_mount";
    case ScanProblem::Kind::BadName: return "bad_name";
    case ScanProblem::Kind::Vanished: return "vanished";
  }
  return "unknown";
}

Scanner::Scanner(Index& index, ContentStore& store, const std::string& root_path, int work,
                 ScanSettings settings, LateLinks* late)
    : index_(index),
      store_(store),
      root_path_(root_path),
      work_(work),
      settings_(std::move(settings)),
      late_(late) {}
Scanner::~Scanner() = default;

ScanReport Scanner::all(bool careful, const WorkControl& control) {
  return Run(*this, true, careful, control).all();
}

ScanReport Scanner::some(const std::vector<Bytes>& directories, const std::vector<Bytes>& trees,
                         const WorkControl& control) {
  return Run(*this, false, false, control).some(directories, trees);
}

}  // namespace mirrorbus::tree
