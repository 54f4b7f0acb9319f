"""The system calls that a program may make, as a seccomp filter in the kernel's own code (classic BPF).

Whatever Python needs to run one thread of one process on files, memory and time is allowed, and nothing else exists:
no other process or thread, namespace, key, socket of a network, memory without an owner (System V's, memfd), io_uring,
userfaultfd or ptrace, nor any call that a later kernel may bring.
"""

import errno
import struct
from collections.abc import Iterator

# fmt: off
_NUMBERS: dict[str, tuple[int, int | None]] = {
    # x86_64 (arch/x86/entry/syscalls/syscall_64.tbl) and aarch64 (include/uapi/asm-generic/unistd.h)
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44),
    "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286), "pwritev2": (328, 287), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "openat": (257, 56), "creat": (85, None),
    "getdents": (78, None), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34),
    "rmdir": (84, None), "link": (86, None), "linkat": (265, 37), "unlink": (87, None), "unlinkat": (263, 35),
    "symlink": (88, None), "symlinkat": (266, 36), "readlink": (89, None), "readlinkat": (267, 78),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "umask": (95, 166),
    "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88), "truncate": (76, 45), "ftruncate": (77, 46),
    "fallocate": (285, 47), "fadvise64": (221, 223), "fsync": (74, 82), "fdatasync": (75, 83), "flock": (73, 32),
    "sendfile": (40, 71), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None),
    "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd2": (290, 19), "getsockname": (51, 204),
    "getpeername": (52, 205), "getsockopt": (55, 209), "shutdown": (48, 210), "sendto": (44, 206),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "mremap": (25, 216), "madvise": (28, 233), "msync": (26, 227), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "kill": (62, 129),
    "tgkill": (234, 131), "tkill": (200, 130), "pause": (34, None), "alarm": (37, None), "setitimer": (38, 103),
    "getitimer": (36, 102), "restart_syscall": (219, 128), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "times": (100, 153), "getrusage": (98, 165), "execve": (59, 221), "exit": (60, 93), "exit_group": (231, 94),
    "wait4": (61, 260), "waitid": (247, 95), "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173),
    "getpgid": (121, 155), "getpgrp": (111, None), "getsid": (124, 156), "setsid": (112, 157), "setpgid": (109, 154),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158), "setgroups": (116, 159),
    "setresuid": (117, 147), "setresgid": (119, 149), "getrlimit": (97, 163), "setrlimit": (160, 164),
    "prlimit64": (302, 261), "getpriority": (140, 141), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "arch_prctl": (158, None), "set_tid_address": (218, 96), "set_robust_list": (273, 99), "rseq": (334, 293),
    "futex": (202, 98), "sysinfo": (99, 179), "uname": (63, 160), "getcpu": (309, 168), "getrandom": (318, 278),
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "socket": (41, 198),
    "listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13), "getxattr": (191, 8),
    "lgetxattr": (192, 9), "fgetxattr": (193, 10), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "fcntl": (72, 25), "ioctl": (16, 29), "socketpair": (53, 199),
}
# fmt: on
_REFUSED = {
    **dict.fromkeys(("clone", "fork", "vfork"), errno.EAGAIN),  # as at the limit on processes
    "socket": errno.EAFNOSUPPORT,
    # tmpfs keeps attributes in memory that no limit counts; shutil goes on without them at this error
    **dict.fromkeys(
        (f"{kind}{call}xattr" for kind in ("", "l", "f") for call in ("list", "get", "set")), errno.ENOTSUP
    ),
}
"""What fails with another error than ENOSYS, because Python's libraries look for it."""
_BY_ARGUMENT = {
    # descriptors' flags and duplicates; no locks, seals or leases, which take the kernel's memory
    "fcntl": (1, (0, 1, 2, 3, 4, 1030), errno.ENOLCK),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451), errno.ENOTTY),
    "socketpair": (0, (1,), errno.EAFNOSUPPORT),  # AF_UNIX, which asyncio wakes itself by
}
"""Calls that are allowed with some values of one argument: its place, the values, the error of all others."""
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
KEYCTL = {"x86_64": 250, "aarch64": 219}
MACHINES = tuple(_ARCHITECTURES)

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; both machines are little-endian
_X32 = 0x40000000


def call_filter(machine: str) -> bytes:
    """The filter of a machine that `platform.machine` calls so, as `bwrap --seccomp` reads it.

    A call by the numbers of another architecture kills the process. Raises KeyError for a machine not in MACHINES.
    """
    column, architecture = _ARCHITECTURES[machine]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in _instructions(column, architecture))


def _instructions(column: int, architecture: int) -> Iterator[tuple[int, int, int, int]]:
    """Code, how many instructions to skip if true and if false, operand."""
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    yield _AT_LEAST, 0, 1, _X32
    yield _RETURN, 0, 0, _ERROR | errno.ENOSYS
    for name, numbers in _NUMBERS.items():
        number = numbers[column]
        if number is None:
            continue
        answer = list(_answer(name))
        yield _EQUAL, 0, len(answer), number
        yield from answer
    yield _RETURN, 0, 0, _ERROR | errno.ENOSYS


def _answer(name: str) -> Iterator[tuple[int, int, int, int]]:
    if name in _REFUSED:
        yield _RETURN, 0, 0, _ERROR | _REFUSED[name]
    elif name in _BY_ARGUMENT:
        place, values, error = _BY_ARGUMENT[name]
        yield _LOAD, 0, 0, _ARGUMENTS + 8 * place  # the low word: the kernel reads these arguments as 32 bits
        for value in values:
            yield _EQUAL, 0, 1, value
            yield _RETURN, 0, 0, _ALLOW
        yield _RETURN, 0, 0, _ERROR | error
    else:
        yield _RETURN, 0, 0, _ALLOW
