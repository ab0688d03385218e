#include "test/support/syscall_gate.hpp"

#include "bus/base/fd.hpp"

#include <cstddef>
#include <cstring>
#include <exception>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mirrorbus::test {
namespace {

constexpr int kChanges[] = {
    SYS_mkdir,    SYS_mkdirat,    SYS_mknodat, SYS_linkat,    SYS_symlinkat, SYS_rename,
    SYS_renameat, SYS_renameat2,  SYS_unlink,  SYS_unlinkat,  SYS_write,     SYS_pwrite64,
    SYS_writev,   SYS_truncate,   SYS_ftruncate, SYS_fallocate, SYS_fchmod,  SYS_fchmodat,
    SYS_fchown,   SYS_fchownat,   SYS_utimensat, SYS_fsync,   SYS_fdatasync, SYS_syncfs,
    SYS_fsetxattr, SYS_setxattr,  SYS_lsetxattr, SYS_copy_file_range};
constexpr int kOpens[] = {SYS_open, SYS_openat, SYS_openat2};

// In the child: the gate's other end.
base::Fd put_up(Calls calls) {
  std::vector<int> numbers;
  if (calls != Calls::Opens) numbers.assign(std::begin(kChanges), std::end(kChanges));
  if (calls != Calls::Changes) numbers.insert(numbers.end(), std::begin(kOpens), std::end(kOpens));
  std::vector<sock_filter> program{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (std::size_t i = 0; i < numbers.size(); ++i)
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(numbers[i]),
                               static_cast<unsigned char>(numbers.size() - i), 0));
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) base::throw_errno("no new privileges");
  base::Fd gate(static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                           SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter)));
  if (!gate) base::throw_errno("seccomp");
  return gate;
}

void send_fd(int socket, int fd) {
  char byte = 'g';
  iovec data{&byte, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  if (::sendmsg(socket, &message, 0) != 1) base::throw_errno("handing over the gate");
}

base::Fd receive_fd(int socket) {
  char byte;
  iovec data{&byte, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return {};
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (!head || head->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
  return base::Fd(fd);
}

// Until the child is gone.
std::uint64_t stand_at(int gate, pid_t child,
                       const std::function<Verdict(std::uint64_t number)>& judge) {
  std::uint64_t number = 0;
  for (;;) {
    pollfd ready{gate, POLLIN, 0};
    if (::poll(&ready, 1, -1) < 0 && errno == EINTR) continue;
    if (!(ready.revents & POLLIN)) return number;
    seccomp_notif call{};
    if (::ioctl(gate, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) continue;  // it is gone already
    const Verdict verdict = judge(number++);
    if (verdict.kill) {
      ::kill(child, SIGKILL);
      continue;
    }
    seccomp_notif_resp answer{};
    answer.id = call.id;
    answer.error = -verdict.error;
    if (verdict.error == 0) answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ::ioctl(gate, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
}

}  // namespace

GateResult at_the_gate(Calls calls, const std::function<std::string()>& work,
                       const std::function<Verdict(std::uint64_t number)>& judge) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    base::throw_errno("socketpair");
  const base::Fd ours(ends[0]);
  base::Fd theirs(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) base::throw_errno("fork");
  if (child == 0) {
    std::string said;
    try {
      send_fd(theirs.get(), put_up(calls).get());
      said = work();
    } catch (const std::exception& error) {
      said = std::string("threw: ") + error.what();
    }
    // Not by write(): that is behind the gate.
    const ssize_t n = ::send(theirs.get(), said.data(), said.size(), MSG_NOSIGNAL);
    ::_exit(n == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  theirs = base::Fd();
  GateResult result;
  {
    const base::Fd gate = receive_fd(ours.get());
    if (gate) result.calls = stand_at(gate.get(), child, judge);
  }
  char buffer[4096];
  for (ssize_t n; (n = ::recv(ours.get(), buffer, sizeof buffer, 0)) > 0;)
    result.said.append(buffer, static_cast<std::size_t>(n));
  int status = 0;
  ::waitpid(child, &status, 0);
  result.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  if (!result.killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
    result.said += " (the child ended with status " + std::to_string(status) + ")";
  return result;
}

}  // namespace mirrorbus::test
