#include "services/tree/served_file.hpp"

namespace mirrorbus::tree {

bool ServedFile::unchanged() const {
  struct stat now;
  return ::fstat(fd.get(), &now) == 0 && now.st_size == st.st_size &&
         now.st_mtim.tv_sec == st.st_mtim.tv_sec && now.st_mtim.tv_nsec == st.st_mtim.tv_nsec;
}

}  // namespace mirrorbus::tree
