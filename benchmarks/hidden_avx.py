"""A processor without AVX, as far as this process can tell: what stands in for ARM on an x86.

XNNPACK leaves its sparse kernels out wherever it finds AVX. Linux can make the instruction that
tells (`cpuid`) a fault, on processors that allow it; the fault's handler here answers as the
processor does, but for the bits of AVX and what builds on it. Code that was loaded before has made
its choice and keeps it.
"""

import ctypes
import mmap
import platform
import signal

ARCH_SET_CPUID = 0x1012
SYS_ARCH_PRCTL = 158
# Places of registers in the saved context that a signal handler is given.
CONTEXT, RBX, RDX, RAX, RCX, RIP = 40, 11, 12, 13, 14, 16
SA_SIGINFO = 4
# Bits of AVX, FMA and F16C in leaf 1, register C; of leaf 7 nothing is left: AVX2, AVX-512, AMX.
LEAF_1_C = (1 << 28) | (1 << 12) | (1 << 29)

# push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; store the four; pop rbx; ret
CODE = bytes.fromhex(
    "53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3".replace(" ", "")
)


class _Action(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_kept: list[object] = []


def can_hide() -> bool:
    """Tell whether this processor and system let `cpuid` be made a fault."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    with open("/proc/cpuinfo") as file:
        return " cpuid_fault " in file.read().replace("\n", " ")


def hide() -> None:
    """Hide AVX from what this process loads from now on, in this thread and those it starts."""
    c = ctypes.CDLL(None, use_errno=True)
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(CODE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))(
        address
    )

    def allow(instruction: bool) -> None:
        if c.syscall(SYS_ARCH_PRCTL, ARCH_SET_CPUID, int(instruction)):
            raise OSError(ctypes.get_errno(), "this processor cannot make cpuid a fault")

    def answer(number: int, info: int, context: int) -> None:
        registers = (ctypes.c_ulonglong * 23).from_address(context + CONTEXT)
        if ctypes.string_at(registers[RIP], 2) != b"\x0f\xa2":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            return
        leaf, sub = registers[RAX] & 0xFFFFFFFF, registers[RCX] & 0xFFFFFFFF
        found = (ctypes.c_uint32 * 4)()
        allow(True)
        ask(leaf, sub, found)
        allow(False)
        if leaf == 1:
            found[2] &= ~LEAF_1_C & 0xFFFFFFFF
        if leaf == 7:
            found[0] = found[1] = found[2] = found[3] = 0
        for place, value in zip((RAX, RBX, RCX, RDX), found, strict=True):
            registers[place] = value
        registers[RIP] += 2

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(answer)
    action = _Action(ctypes.cast(handler, ctypes.c_void_p).value, flags=SA_SIGINFO)
    if c.sigaction(signal.SIGSEGV, ctypes.byref(action), None):
        raise OSError(ctypes.get_errno(), "the handler cannot be set")
    _kept.extend((page, ask, handler, action))
    allow(False)
