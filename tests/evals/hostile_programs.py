"""Programs that must not pass, and a run of all of them beside ordinary ones, as whichever user this is called by.

An attack ends in the right function, so that it passes if it succeeds: what is refused raises. Prints as JSON which
passed, whose ordinary neighbour got a wrong verdict, and what is not as before on the machine.

    python tests/evals/hostile_programs.py
"""

# ruff: noqa: E501

import ctypes
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

RIGHT = "def f(n): return 3 * n + 1"
SWALLOWING = "\n".join(["try: f(_n)", "except Exception: pass"] * 2)

ANSWERS = {
    # ends in time
    "endless loop": "def f(n):\n    while True: pass",
    "endless loop while loading": "while True: pass",
    "sleep": "import time\ndef f(n):\n    time.sleep(1000)",
    "sleep for good": "import signal\ndef f(n): signal.pause()",
    "deadlock": "import threading\ndef f(n):\n    lock = threading.Lock()\n    with lock, lock: return 3 * n + 1",
    "ignored signals": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ndef f(n):\n    while True: pass"
    ),
    "endless generator": "def f(n):\n    while True: yield n",
    "endless recursion": "def f(n): return f(n)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)",
    "deep nesting": "def f(n):\n    x = []\n    for _ in range(10**6): x = [x]\n    return x",
    "cyclic answer": "def f(n):\n    x = []\n    x.append(x)\n    return x",
    "catastrophic pattern": "import re\ndef f(n): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "huge number": "def f(n): return 10 ** 10 ** 8",
    # takes too much
    "memory hog": "def f(n):\n    return [bytearray(1 << 20) for _ in range(10**6)]",
    "memory hog while loading": "x = bytearray(1 << 40)",
    "disk hog": "def f(n):\n    with open('/tmp/x', 'wb') as o:\n        while True: o.write(bytes(1 << 20))",
    "many files": (
        "def f(n):\n    for i in range(10**6):\n        with open(f'/tmp/{i}', 'wb') as o: o.write(bytes(1 << 16))"
    ),
    "huge answer": "def f(n): return 'x' * (100 << 20)",
    "many empty lists": "def f(n): return [[] for _ in range(5 * 10**6)]",
    "huge output": "def f(n):\n    while True: print('x' * (1 << 20))",
    "huge error output": "import sys\ndef f(n):\n    while True: sys.stderr.write('x' * (1 << 20))",
    # ends itself, or what judges it
    "early exit": "import os\nos._exit(0)",
    "early exit by exception": "raise SystemExit(0)",
    "exit in the call": "import os\ndef f(n): os._exit(0)",
    "exit at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(n): return 0",
    "abort": "import os\ndef f(n): os.abort()",
    "segmentation fault": "import ctypes\ndef f(n): return ctypes.string_at(0)",
    "signal to the parent": "import os, signal\ndef f(n):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return n",
    "signal to everyone": "import os, signal\ndef f(n):\n    os.kill(-1, signal.SIGKILL)\n    return n",
    "closes everything": "import os\ndef f(n):\n    os.closerange(0, 256)\n    return 3 * n + 1",
    "fork bomb": "import os\ndef f(n):\n    while True: os.fork()",
    # forges a verdict
    "prints a verdict": "print('t2:s6:passeds0:', flush=True)\nprint('passed')\ndef f(n): return 0",
    "writes to every descriptor": (
        "import os\nfor d in range(256):\n"
        "    try: os.write(d, b't2:s6:passeds0:')\n    except OSError: pass\n"
        "def f(n): return 0"
    ),
    "forged messages": (
        "import os\nfrom inside.plain_data import encode\nm = encode(('returned', True))\nfor d in range(3, 64):\n"
        "    for _ in range(9):\n        try: os.write(d, len(m).to_bytes(4, 'big') + m)\n        except OSError: break\n"
        "def f(n): return True"
    ),
    "equal to everything": (
        "class E:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    def __hash__(self): return 0\ndef f(n): return E()"
    ),
    "an integer equal to everything": (
        "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef f(n): return E(0)"
    ),
    "patched equality of integers": (
        "import builtins\nclass int(int):\n    def __eq__(self, other): return True\nbuiltins.int = int\n"
        "def f(n): return int(0)"
    ),
    "patched assert": "import builtins\nbuiltins.AssertionError = type('A', (BaseException,), {})\ndef f(n): return 0",
    "raises nothing wrong": "def f(n): raise SystemExit(0)",
    "raises a stop": "def f(n): raise StopIteration",
    "patched codec": (
        "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'encode'):\n        m.encode = lambda v: b'T'\n"
        "def f(n): return 0"
    ),
    "opaque message": "import inside.plain_data as p\np.encode = lambda v: b'o1:x'\ndef f(n): return 0",
    "hunts for the tests": (
        "import gc, sys\ndef f(n):\n    for o in gc.get_objects():\n"
        "        if isinstance(o, dict) and '_n' in o: return o['_n'] * 3 + 1\n"
        "    frame = sys._getframe()\n    while frame:\n        if '_n' in frame.f_globals: return frame.f_globals['_n']\n"
        "        frame = frame.f_back\n    return 0"
    ),
}
"""Programs that give no right answer, or none in time, whatever they try."""

CALLS = {
    # name: number on x86_64 and on aarch64
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "shmget": (29, 194), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "unshare": (272, 97), "setns": (308, 268), "clone3": (435, 435), "clone": (56, 220), "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282), "bpf": (321, 280), "perf_event_open": (298, 241), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "personality": (135, 92), "prctl": (157, 167), "seccomp": (317, 277), "fanotify_init": (300, 262),
    "inotify_init1": (294, 26), "landlock_create_ruleset": (444, 444), "mlock": (149, 228), "timer_create": (222, 107),
    "signalfd4": (289, 74), "timerfd_create": (283, 85), "mount": (165, 40), "umount2": (166, 39), "chroot": (161, 51),
    "pivot_root": (155, 41), "open_tree": (428, 428), "fsopen": (430, 430), "name_to_handle_at": (303, 264),
    "swapon": (167, 224), "syslog": (103, 116), "sethostname": (170, 161), "sched_setaffinity": (203, 122),
    "mbind": (237, 235), "quotactl": (179, 60), "getpid": (39, 172), "mknodat": (259, 33), "io_setup": (206, 0),
    "sendmsg": (46, 211), "setsockopt": (54, 208), "vmsplice": (278, 75), "tee": (276, 77), "execveat": (322, 281),
}  # fmt: skip
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
NUMBERS = {name: numbers[COLUMN] for name, numbers in CALLS.items()}
CALLING = f"""
import ctypes, os
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = {NUMBERS!r}
def call(name, *arguments):
    number = name if isinstance(name, int) else _numbers[name]
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    words += [ctypes.c_long(0)] * (6 - len(words))
    result = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0: raise OSError(ctypes.get_errno(), str(name))
    return result
"""
LONG = "b'user', b'planted', b'by the program', 14"
ATTACKS = {
    # keys of the user who runs the harness
    "reads a session key": "k = call('keyctl', 10, -3, b'user', b'secret', 0)\nb = b' ' * 99\nassert call('keyctl', 11, k, b, 99) > 0",
    "names the session keyring": "call('keyctl', 0, -3, 0)",
    "plants a session key": f"call('add_key', {LONG}, -3)",
    "plants a user key": f"call('add_key', {LONG}, -4)",
    "plants a key of the process": f"call('add_key', {LONG}, -2)",
    "asks for a key": "call('request_key', b'user', b'secret', b'', -3)",
    "joins a keyring": "call('keyctl', 1, 0)",
    "links keyrings": "call('keyctl', 8, -4, -3)",
    "reads the list of keys": "open('/proc/keys').read()",
    # memory that its own limit doesn't count
    "System V shared memory": "call('shmget', 0, 64 << 20, 0o1600)",
    "System V semaphores": "call('semget', 0, 32000, 0o1600)",
    "System V messages": "call('msgget', 0, 0o1600)",
    "message queue": "call('mq_open', b'hostile', os.O_CREAT | os.O_RDWR, 0o600, 0)",
    "memfd": "d = os.memfd_create('x')\nfor _ in range(400): os.write(d, bytes(1 << 20))",
    "memfd by its number": "call('memfd_create', b'x', 0)",
    "secret memory": "call('memfd_secret', 0)",
    "shared pages": "import mmap\nm = [mmap.mmap(-1, 64 << 20) for _ in range(5)]\nfor x in m: x.write(bytes(64 << 20))",
    "files in /dev/shm": "open('/dev/shm/hostile', 'w')",
    "semaphores of processes": "import multiprocessing\nmultiprocessing.Semaphore()",
    "a shared block": "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=1 << 20)",
    "page tables": (
        "import mmap\n_libc.mmap.restype = ctypes.c_void_p\nfor i in range(60000):\n"
        "    p = _libc.mmap(ctypes.c_void_p((16 << 40) + (i << 30)), 4096, 3, 0x22, -1, 0)\n"
        "    assert p not in (None, 2**64 - 1)\n    ctypes.memset(p, 1, 1)\nimport time\ntime.sleep(0.2)"
    ),
    "memory and files together": (
        "x = bytearray(b'x') * (215 << 20)\nopen('/tmp/x', 'wb').write(bytes(40 << 20))"
    ),
    "large pipes": "import fcntl\np = [os.pipe() for _ in range(8)]\nfor _, w in p: fcntl.fcntl(w, 1031, 1 << 20)",
    "many pipes": "p = [os.pipe() for _ in range(1000)]",
    "open files": "x = [open('/dev/null') for _ in range(1000)]",
    "terminals": "x = [os.openpty() for _ in range(100)]",
    "300,000 empty files": "for i in range(300000): os.close(os.open(f'/tmp/{i}', os.O_CREAT))",
    "100,000 folders": "for i in range(100000): os.mkdir(f'/tmp/{i}')",
    "100,000 links": "for i in range(100000): os.symlink('x' * 100, f'/tmp/{i}')",
    "100,000 names of a file": "open('/tmp/x', 'w')\nfor i in range(100000): os.link('/tmp/x', f'/tmp/{i}')",
    "unlinked files": "x = []\nfor i in range(100):\n    x.append(open('/tmp/x', 'w'))\n    os.unlink('/tmp/x')",
    "named pipes": "call('mknodat', -100, b'/tmp/p', 0o10600, 0)",
    "100,000 locks": "import fcntl\nd = open('/tmp/x', 'w')\nfor i in range(100000): fcntl.lockf(d, fcntl.LOCK_EX, 1, 2 * (100000 - i))",
    "attributes of files": "open('/tmp/x', 'w')\nfor i in range(1000): os.setxattr('/tmp/x', f'user.{i}', bytes(4096))",
    "a large file": "open('/tmp/x', 'wb').truncate(1 << 30)",
    "room for a large file": "os.posix_fallocate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 0, 64 << 20)",
    "files where packages were": "import glob\nopen(glob.glob('/*/**/site-packages', recursive=True)[0] + '/x', 'w')",
    "locked memory": "call('mlock', id(_numbers), 4096)",
    "timers": "call('timer_create', 0, 0, id(bytearray(64)))",
    "inotify": "call('inotify_init1', 0)",
    "descriptors in flight": (
        "import socket\na, b = socket.socketpair()\nfor _ in range(20): socket.send_fds(a, [b'x'], [*os.pipe()])"
    ),
    "asynchronous io": "c = ctypes.c_ulong()\ncall('io_setup', 1000, ctypes.addressof(c))",
    # limits
    "raises a limit": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "raises the limit on time": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
    "binds itself to a processor": "os.sched_setaffinity(0, [0])",
    "a higher priority": "os.nice(-1)",
    # other processes and threads
    "fork": "if os.fork() == 0: os._exit(0)",
    "fork bomb while loading": "for _ in range(10**4):\n    if os.fork() == 0:\n        while True: pass",
    "orphan": "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)",
    "threads": "import threading\nfor _ in range(10**3): threading.Thread(target=sum, args=([],)).start()",
    "subprocess": "import subprocess\nsubprocess.run(['/bin/sleep', '0'], check=True)",
    "an interpreter of its own": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''], check=True)",
    "shell": "assert os.system('true') == 0",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "pool of processes": "import multiprocessing\nmultiprocessing.Pool(2)",
    "a program of the machine": "os.execv('/bin/true', ['true'])",
    "reads other processes": "for p in os.listdir('/proc'): open(f'/proc/{p}/environ').read()",
    "traces": "call('ptrace', 0)",
    "reads a process's memory": "v = (ctypes.c_ulong * 2)(id(v) if 'v' in dir() else 0, 8)\ncall('process_vm_readv', os.getpid(), ctypes.addressof(v), 1, ctypes.addressof(v), 1, 0)",
    "compares processes": "call('kcmp', os.getpid(), os.getpid(), 0, 0, 0)",
    "handle of a process": "call('pidfd_open', os.getpid(), 0)",
    # the network, and sockets that no namespace holds
    "connects": "import socket\nsocket.create_connection(('127.0.0.1', 22), 2)",
    "listens": "import socket\nsocket.create_server(('127.0.0.1', 0))",
    "looks a name up": "import socket\nsocket.gethostbyname('localhost')",
    "sends a datagram": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "vsock": "import socket\nsocket.socket(40, socket.SOCK_STREAM)",
    "netlink": "import socket\nsocket.socket(16, socket.SOCK_RAW)",
    "packets": "import socket\nsocket.socket(17, socket.SOCK_RAW)",
    "the kernel's cryptography": "import socket\nsocket.socket(38, socket.SOCK_SEQPACKET)",
    "a pair of another family": "import socket\nsocket.socketpair(socket.AF_TIPC if hasattr(socket, 'AF_TIPC') else 30)",
    "bluetooth": "import socket\nsocket.socket(31, socket.SOCK_RAW)",
    # calls that widen what the kernel does for it
    "user namespace": "call('unshare', 0x10000000)",
    "mount namespace": "call('unshare', 0x20000)",
    "another's namespace": "call('setns', 0, 0)",
    "a child in a namespace": "call('clone', 0x10000000 | 17, 0, 0, 0, 0)",
    "clone3": "b = ctypes.create_string_buffer(88)\ncall('clone3', ctypes.addressof(b), 88)",
    "io_uring": "b = ctypes.create_string_buffer(120)\ncall('io_uring_setup', 8, ctypes.addressof(b))",
    "userfaultfd": "call('userfaultfd', 1)",
    "bpf": "b = ctypes.create_string_buffer(64)\ncall('bpf', 0, ctypes.addressof(b), 64)",
    "performance counters": "b = ctypes.create_string_buffer(112)\ncall('perf_event_open', ctypes.addressof(b), 0, -1, -1, 0)",
    "personality": "call('personality', 0x40000)",
    "prctl": "call('prctl', 4, 1, 0, 0, 0)",
    "a filter of its own": "call('seccomp', 0, 0, 0)",
    "fanotify": "call('fanotify_init', 0x200, 0)",
    "landlock": "call('landlock_create_ruleset', 0, 0, 1)",
    "signals as files": "b = ctypes.create_string_buffer(8)\ncall('signalfd4', -1, ctypes.addressof(b), 8, 0)",
    "mounts": "call('mount', b'x', b'/tmp', b'tmpfs', 0, b'')",
    "unmounts": "call('umount2', b'/tmp', 2)",
    "chroot": "call('chroot', b'/tmp')",
    "a tree of mounts": "call('open_tree', -100, b'/', 1)",
    "a file system": "call('fsopen', b'tmpfs', 0)",
    "handles of files": "b = ctypes.create_string_buffer(136)\ncall('name_to_handle_at', -100, b'/', ctypes.addressof(b), ctypes.addressof(b), 0)",
    "the kernel's log": "call('syslog', 10, 0, 0)",
    "another name of the machine": "call('sethostname', b'x', 1)",
    "privileges": "os.setuid(0)",
    "types into a terminal": "import fcntl, termios\nd = os.open('/dev/ptmx', os.O_RDWR)\nfcntl.ioctl(d, termios.TIOCSTI, b'x')",
    "a call by x32": "call(0x40000000 | _numbers['getpid'])\nassert os.uname().machine == 'x86_64'",
    "a call by another architecture": (
        "import mmap\nassert os.uname().machine == 'x86_64'\nm = mmap.mmap(-1, 4096, prot=7)\n"
        "m.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20 (getpid); int 0x80; ret
        "assert ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))() > 0"
    ),
    "a call that no kernel has": "call(999)",
    # files
    "reads data of the machine": (
        "import sys\nseen = []\nfor folder in ('/usr', '/etc', '/opt', '/home', '/root', '/srv', '/var', '/run', '/sys', '/proc', '/mnt'):\n"
        "    for place, _, names in os.walk(folder):\n"
        "        for name in names:\n            path = os.path.join(place, name)\n"
        "            if path.startswith((os.path.dirname(os.__file__), '/usr/share/zoneinfo/')) or path in ('/etc/ld.so.cache', sys.executable): continue\n"
        "            if '.so' not in name: seen.append(path)\nassert seen"
    ),
    "reads the interpreter's packages": "import glob\nassert [p for p in glob.glob('/*/**/site-packages/*', recursive=True)]",
    "reads the harness": "assert os.listdir('/harness') != ['inside']",
    "reads its tests": "open('/harness/../tests.py')",
    "replaces the harness": "open('/harness/inside/checker.py', 'w').write('')",
    "replaces the library": "open(os.__file__, 'w').write('')",
    "writes beside the library": "open(os.path.dirname(os.__file__) + '/hostile', 'w')",
    "writes at the root": "open('/hostile', 'w')",
    "writes in /dev": "open('/dev/hostile', 'w')",
    "reads the environment": "assert set(os.environ) - {'PWD', 'LC_CTYPE'}",
    "an inherited descriptor": (
        "import stat\nopened = []\nfor d in range(3, 64):\n    try: opened.append(stat.S_IFMT(os.fstat(d).st_mode))\n    except OSError: pass\n"
        "assert any(kind != stat.S_IFSOCK for kind in opened)"
    ),
}  # fmt: skip
"""Ways out; each raises where it is refused."""

EXITS = {
    "exit in the call": "import os\ndef f(n): os._exit(0)",
    "exit by exception in the call": "import sys\ndef f(n): sys.exit()",
    "exit while loading": "import os\nos._exit(0)",
    "killed in the call": "import os, signal\ndef f(n): os.kill(os.getpid(), signal.SIGKILL)",
    "interrupts": "def f(n): raise KeyboardInterrupt",
    "closes its channel": "import os\ndef f(n): os.closerange(3, 64)",
}
"""Programs that end while their tests swallow every exception."""

SESSION, USER = -3, -4


def keyring(which: int) -> list[bytes]:
    """Descriptions of a keyring's keys and what each holds; empty where the kernel keeps keys from this process."""
    libc = ctypes.CDLL(None)
    buffer = (ctypes.c_int32 * 1000)()
    size = libc.syscall(NUMBERS["keyctl"], 11, which, buffer, ctypes.sizeof(buffer))
    held: list[bytes] = []
    for key in buffer[: max(size, 0) // 4]:
        for operation in (6, 11):  # describe, read
            content = ctypes.create_string_buffer(1000)
            libc.syscall(NUMBERS["keyctl"], operation, key, content, 1000)
            held.append(content.value)
    return sorted(held)


def children() -> list[str]:
    """Processes below this one, once those that were killed have ended."""
    for _ in range(100):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        time.sleep(0.1)
    return [line for task in Path("/proc/self/task").iterdir() for line in (task / "children").read_text().split()]


def mounts() -> list[str]:
    """All but those of tests that mount a disk of their own meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split()[4].startswith(f"{tempfile.gettempdir()}/")]


def machine() -> dict[str, object]:
    """What programs could leave behind or change."""
    ours = (path for folder in ("/tmp", "/dev/shm", "/dev/mqueue", "/") for path in Path(folder).glob("hostile"))
    return {
        "session keyring": keyring(SESSION),
        "user keyring": keyring(USER),
        "shared memory": [Path(f"/proc/sysvipc/{kind}").read_text() for kind in ("shm", "sem", "msg")],
        "mounts": mounts(),
        "files": [*map(str, ours)],
        "host name": os.uname().nodename,
        "processes": children(),
    }


def main() -> None:
    """Runs everything, two at a time on each core, every third program an ordinary one."""
    from evals.execution.isolation import Limits
    from evals.execution.programs import Checks, run_programs

    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # what a program leaves behind becomes a child of this process, and is seen
    libc.syscall(NUMBERS["keyctl"], 1, None)
    libc.syscall(NUMBERS["add_key"], b"user", b"secret", b"of the harness", 14, SESSION)

    number = "import random\n_n = random.SystemRandom().getrandbits(64)"
    secret = Checks(number, "f", "assert f(_n) == _n * 3 + 1")  # no program can guess the answer
    swallowing = Checks(number, "f", SWALLOWING)
    hostile = {f"answer: {name}": (program, secret) for name, program in ANSWERS.items()}
    hostile |= {f"attack: {name}": (f"{CALLING}\n{program}\n{RIGHT}", secret) for name, program in ATTACKS.items()}
    hostile |= {f"exit: {name}": (program, swallowing) for name, program in EXITS.items()}
    ordinary = {f"right {i}": (RIGHT, secret) for i in range(len(hostile) // 4)}
    ordinary |= {f"wrong {i}": ("def f(n): return 3 * n", secret) for i in range(len(hostile) // 8)}
    named = list(hostile.items())
    for i, neighbour in enumerate(ordinary.items()):
        named.insert(3 * i, neighbour)
    before = machine()
    limits = Limits(cpu_seconds=1, wall_seconds=10, memory_bytes=256 << 20, disk_bytes=8 << 20)
    outcomes = run_programs([program for _, program in named], limits=limits)
    after = machine()
    judged = {name: outcome for (name, _), outcome in zip(named, outcomes, strict=True)}
    report = {
        "programs": len(hostile),
        "passed": [name for name in hostile if judged[name].passed],
        "wronged": [name for name in ordinary if judged[name].passed != name.startswith("right")],
        "changed": [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]],
        "keys": len(before["session keyring"]),  # type: ignore[arg-type]
        "details": {name: outcome.detail for name, outcome in judged.items()},
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
