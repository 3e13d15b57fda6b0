"""Compiles eBPF programs with the system's bcc and stand-in kernel headers."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dnstrail.errors import SourceUnavailable
from dnstrail.temporary_folder import temporary_folder

REMEDY = "apt-get install python3-bpfcc"
_BCC = Path("/usr/lib/python3/dist-packages/bcc/__init__.py")
_TYPES = """\
#pragma once
typedef signed char __s8; typedef unsigned char __u8; typedef short __s16; typedef unsigned short __u16;
typedef int __s32; typedef unsigned int __u32; typedef long long __s64; typedef unsigned long long __u64;
typedef __u16 __le16; typedef __u16 __be16; typedef __u32 __le32; typedef __u32 __be32;
typedef __u64 __le64; typedef __u64 __be64; typedef __u16 __sum16; typedef __u32 __wsum; typedef unsigned __poll_t;
typedef __s8 s8; typedef __u8 u8; typedef __s16 s16; typedef __u16 u16;
typedef __s32 s32; typedef __u32 u32; typedef __s64 s64; typedef __u64 u64;
typedef _Bool bool; typedef __SIZE_TYPE__ size_t; typedef long ssize_t; typedef int pid_t;
typedef unsigned uid_t; typedef unsigned gid_t; typedef unsigned short umode_t; typedef u64 sector_t;
typedef u32 dev_t; typedef long long loff_t; typedef int key_t; typedef long clock_t; typedef u32 gfp_t;
typedef unsigned long uintptr_t;
#define __bitwise
#define __user
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define __aligned_be64 __be64 __attribute__((aligned(8)))
#define __aligned_le64 __le64 __attribute__((aligned(8)))
#define true 1
#define false 0
#define NULL ((void *)0)
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
"""
_REGISTERS = {
    "x86_64": "struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di,"
    " orig_ax, ip, cs, flags, sp, ss; };",
    "aarch64": "struct user_pt_regs { __u64 regs[31]; __u64 sp, pc, pstate; };\n"
    "struct pt_regs { union { struct user_pt_regs user_regs; struct { u64 regs[31]; u64 sp, pc, pstate; }; }; };",
}
# bcc brings its own bpf.h; the other files that it includes can be empty.
_EMPTY = (
    "linux/log2.h", "linux/compiler.h", "linux/bpf.h", "linux/stddef.h", "linux/bpf_common.h",
    "uapi/linux/bpf.h", "uapi/linux/bpf_common.h", "uapi/linux/if_packet.h", "uapi/linux/if_ether.h",
)  # fmt: skip


def load_bcc() -> ModuleType:
    """Load Debian's bcc into any environment, without the rest of the system's packages."""
    if not _BCC.exists():
        raise SourceUnavailable("ebpf", "bcc is not installed", REMEDY)
    spec = importlib.util.spec_from_file_location("bcc", _BCC, submodule_search_locations=[str(_BCC.parent)])
    if spec is None or spec.loader is None:
        raise SourceUnavailable("ebpf", "bcc cannot be loaded", REMEDY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        raise SourceUnavailable("ebpf", f"bcc does not load ({error})", REMEDY) from error
    return module


def bcc_version() -> str:
    """Return the text of the file with the version of the installed bcc, which this process need not load.

    Raises:
        SourceUnavailable: bcc is not installed.
    """
    try:
        return _BCC.with_name("version.py").read_text(encoding="utf-8")
    except OSError as error:
        raise SourceUnavailable("ebpf", "bcc is not installed", REMEDY) from error


def compile_text(bcc: ModuleType, text: str) -> Any:
    """Compile a text with bcc, without kernel headers."""
    with temporary_folder("dnstrail-headers-") as folder:
        _write_headers(folder)
        os.environ["BCC_KERNEL_SOURCE"] = str(folder)
        try:
            return bcc.BPF(text=text, cflags=["-w"])
        finally:
            del os.environ["BCC_KERNEL_SOURCE"]


def _write_headers(folder: Path) -> None:
    """Write the headers to a folder, which BCC_KERNEL_SOURCE must name while bcc compiles."""
    for name, text in headers().items():
        path = folder / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def headers() -> dict[str, str]:
    """Return the stand-in headers for the running kernel: path -> text."""
    major, minor, *_ = (int(part) for part in os.uname().release.split("-")[0].split(".")[:3])
    files = dict.fromkeys(_EMPTY, "#pragma once\n")
    files["linux/kconfig.h"] = "#define CONFIG_64BIT 1\n#define CONFIG_BPF_SYSCALL 1\n#define CONFIG_X86_64 1\n"
    files["linux/types.h"] = files["uapi/linux/types.h"] = _TYPES
    files["linux/version.h"] = (
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
        f"#define LINUX_VERSION_CODE {(major << 16) + (minor << 8)}\n"
    )
    files["asm/page.h"] = f"#pragma once\n#define PAGE_SIZE {os.sysconf('SC_PAGESIZE')}\n"
    registers = _REGISTERS.get(platform.machine(), "struct pt_regs { unsigned long unknown; };")
    files["uapi/linux/ptrace.h"] = f"#pragma once\n#include <linux/types.h>\n{registers}\n"
    files["linux/ptrace.h"] = "#pragma once\n#include <uapi/linux/ptrace.h>\n"
    return files
