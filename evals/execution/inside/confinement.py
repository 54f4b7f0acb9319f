"""The limits that a process puts on itself before it touches anything untrusted; they can't be lifted again."""

import os
import resource


def confine(user: int, seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """One process without threads or children, and no privileges.

    Where the harness runs as root, the kernel doesn't count root's processes: `user` is a number that nobody else
    has, and the process becomes that user. Otherwise `user` is 0 and nothing changes.
    """
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 1),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 32),
    ):
        _, highest = resource.getrlimit(limit)
        if highest != resource.RLIM_INFINITY:  # one that the machine's owner has set may be the lower of the two
            value = highest if value == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(limit, (value, value))
