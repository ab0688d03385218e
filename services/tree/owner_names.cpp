#include "services/tree/owner_names.hpp"

#include <grp.h>
#include <pwd.h>

namespace mirrorbus::tree {
namespace {

// `get` is getpwuid_r or getgrgid_r: they want more room until they have enough.
template <class Record, class Get>
void add(std::map<std::uint32_t, proto::Bytes>& names, std::uint32_t id, Get get,
         char* Record::*name) {
  std::vector<char> room(4096);
  while (true) {
    Record record;
    Record* found = nullptr;
    const int error = get(id, &record, room.data(), room.size(), &found);
    if (error == ERANGE && room.size() < 1024 * 1024) {
      room.resize(room.size() * 4);
      continue;
    }
    if (error == 0 && found && proto::valid_owner_name(found->*name)) names[id] = found->*name;
    return;
  }
}

}  // namespace

proto::OwnersTable owner_names(const std::vector<std::uint32_t>& users,
                               const std::vector<std::uint32_t>& groups) {
  proto::OwnersTable table;
  for (const auto id : users) add<passwd>(table.users, id, ::getpwuid_r, &passwd::pw_name);
  for (const auto id : groups) add<group>(table.groups, id, ::getgrgid_r, &group::gr_name);
  return table;
}

}  // namespace mirrorbus::tree
