// A seeded directory tree with everything in it that mirroring tends to get wrong, and seeded
// changes to it.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace mirrorbus::test {

class RandomTree {
 public:
  // In the directory `path`, which is there. As a plain user it leaves out owners, devices and
  // attributes that are root's, and keeps everything readable for itself.
  RandomTree(std::string path, std::uint64_t seed);

  void grow(int entries);
  // So many random changes; what they were is in log().
  void mutate(int changes);
  const std::vector<std::string>& log() const { return log_; }

 private:
  using Paths = std::vector<std::string>;
  Paths find(const std::function<bool(unsigned mode)>& wanted, bool with_root = false);
  Paths directories() {
    return find([](unsigned m) { return (m & 0170000) == 0040000; }, true);
  }
  Paths files() {
    return find([](unsigned m) { return (m & 0170000) == 0100000; });
  }
  Paths anything() {
    return find([](unsigned) { return true; });
  }

  int number(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }
  const std::string& pick(const Paths& paths);
  std::string new_name();
  std::string new_path();
  std::string content();
  void write(const std::string& path);
  void dress(const std::string& path);
  void mark(const std::string& path);
  void add();
  void change();
  void remove(const std::string& path);
  // Runs `work` with the directory that holds `path` writable.
  void in_parent(const std::string& path, const std::function<void()>& work);
  void note(const std::string& what, const std::string& path);

  std::string top_;
  std::mt19937_64 random_;
  bool root_;
  int names_ = 0;
  std::vector<std::string> log_;
};

}  // namespace mirrorbus::test
