# SPDX-License-Identifier: Apache-2.0
"""Prove that the library runs on a machine with the baseline instruction set only.

Reads object code with objdump, member by member of a static library (or file by file of a folder of
objects), and checks that

- no instruction of a wider instruction set lies outside the ISA files: on x86-64 nothing encoded
  with a VEX or EVEX prefix (every AVX, FMA, F16C, BMI and AVX-512 instruction), on 64-bit ARM no
  dot product;
- ISA files have no constructors that would run on import;
- ISA files define no function that another file could be linked to (global, weak or COMDAT): the
  linker keeps one copy of an inline function, and it must not be theirs.

An extension module with a symbol table can be given too; there a wide instruction must lie in a
function of an ISA file's trait.

    python tools/check_isa.py [--objdump OBJDUMP] [PATH ...]

Without PATH: what the package is built from, under build/python.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ISA_MEMBER = re.compile(r"^(avx2|avx512|avx512vnni|neon)\.cpp\.o(bj)?$")
# A kernel of an ISA file in a linked module: an instantiation over the trait, or the trait itself.
ISA_FUNCTION = re.compile(r"bigrain::simd::\(anonymous namespace\)::(Avx2|Avx512|Neon|finish4)\b")
ISA_CONSTRUCTOR = re.compile(r"_GLOBAL__sub_I_.*(avx2|avx512|neon)")
# In 64-bit mode C4, C5 and 62 start a VEX or EVEX prefix and nothing else; only segment and
# address-size prefixes may stand before them (Intel SDM volume 2A, 2.3 and 2.7).
WIDE_X86 = re.compile(r"^((64|65|67|2e|36|3e|26) )*(c4|c5|62) ")
WIDE_ARM = re.compile(r"^([su]dot|usdot|sudot)\b")
CONSTRUCTOR_SECTIONS = re.compile(r"\s(\.(pre)?init_array|\.ctors)\b")
# `objdump -t`: value, seven flags, section, size, name. Flags: scope first, F marks a function.
SYMBOL = re.compile(r"^[0-9a-f]+ (.{7}) (\S+)\t[0-9a-f]+\s+(?:\.hidden )?(.*)$")


@dataclass
class Member:
    """What was found in one object file."""

    name: str
    instructions: int = 0
    wide: dict[str, str] = field(default_factory=dict)  # function -> its first wide instruction
    shared_functions: list[str] = field(default_factory=list)
    constructors: list[str] = field(default_factory=list)

    @property
    def is_isa_file(self) -> bool:
        """Whether this is one of the files compiled for a wider instruction set."""
        return ISA_MEMBER.match(Path(self.name).name) is not None


def objdump_lines(objdump: str, options: list[str], path: Path) -> Iterator[str]:
    """Run objdump and yield what it prints, line by line."""
    command = [objdump, *options, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield line.rstrip("\n")
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")


def note_code_line(member: Member, function: str, line: str, arm: bool) -> None:
    """Count one disassembled line, and remember it where it is a wide instruction."""
    # "  12:\tc5 f8 77             \tvzeroupper"
    fields = line.split("\t")
    if len(fields) < 3:
        return
    member.instructions += 1
    wide = WIDE_ARM.match(fields[2]) if arm else WIDE_X86.match(fields[1])
    if wide:
        member.wide.setdefault(function, fields[2].strip())


def note_symbol(member: Member, line: str) -> None:
    """Remember what a line of the symbol table says about constructors and shared functions."""
    symbol = SYMBOL.match(line)
    if symbol is None:
        return
    flags, section, name = symbol.groups()
    if ISA_CONSTRUCTOR.search(name):
        member.constructors.append(name)
    if section != "*UND*" and flags[0] != "l" and "F" in flags:
        member.shared_functions.append(name)


def read_members(objdump: str, path: Path) -> list[Member]:
    """Every member of a library, or the one of an object file, in the order of the file."""
    members: list[Member] = []
    function, arm = "", False
    options = ["-dhtC", "--wide"]
    for line in objdump_lines(objdump, options, path):
        header = re.match(r"^(\S+):\s+file format (\S+)", line)
        if header:
            members.append(Member(header.group(1)))
            arm = "aarch64" in header.group(2)
        elif not members:
            continue
        elif CONSTRUCTOR_SECTIONS.search(line) and line.startswith(" "):
            members[-1].constructors.append(line.split()[1])
        elif title := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            function = title.group(1)
        elif line.startswith(" ") and ":\t" in line:
            note_code_line(members[-1], function, line, arm)
        else:
            note_symbol(members[-1], line)
    return members


def problems_of_member(member: Member) -> Iterator[str]:
    """What is wrong with one object file."""
    if not member.is_isa_file:
        for function, instruction in member.wide.items():
            yield f"{member.name}: {function} has `{instruction}`, outside the ISA files"
        return
    if not member.wide:
        yield f"{member.name}: no wide instruction at all; was it compiled with its flags?"
    for section in member.constructors:
        yield f"{member.name}: {section}: an ISA file must not have constructors"
    for name in member.shared_functions:
        yield f"{member.name}: defines {name}, which other files could be linked to"


def problems_of_module(module: Member) -> Iterator[str]:
    """A linked module: members cannot be told apart, the names of functions can."""
    if not any(ISA_FUNCTION.search(function) for function in module.wide):
        yield f"{module.name}: no kernel's name found; is its symbol table stripped?"
        return
    for function, instruction in module.wide.items():
        if not ISA_FUNCTION.search(function):
            yield f"{module.name}: {function} has `{instruction}`, outside the ISA files"
    for name in module.constructors:
        if ISA_CONSTRUCTOR.search(name):
            yield f"{module.name}: {name}: an ISA file must not have constructors"


def check(objdump: str, path: Path) -> list[str]:
    """Check one library, folder, object or module; say what was read and return the problems."""
    if path.is_dir():
        members = [m for file in sorted(path.rglob("*.o")) for m in read_members(objdump, file)]
    else:
        members = read_members(objdump, path)
    if path.is_file() and path.suffix == ".so":
        problems = [problem for member in members for problem in problems_of_module(member)]
    else:
        problems = [problem for member in members for problem in problems_of_member(member)]
    isa_files = sum(member.is_isa_file for member in members)
    instructions = sum(member.instructions for member in members)
    if instructions == 0:
        problems.append(f"{path}: no object code found")
    elif path.suffix == ".a" and isa_files == 0:
        problems.append(f"{path}: has none of the ISA files (avx2.cpp.o, neon.cpp.o, ...)")
    print(f"{path}: {len(members)} members, {isa_files} ISA files, {instructions} instructions")
    return problems


def default_paths() -> list[Path]:
    """Find the static library that the package is linked from."""
    build = Path(__file__).resolve().parents[1] / "build" / "python"
    paths = sorted(build.rglob("libbigrain.a"))
    if not paths:
        raise SystemExit(f"no libbigrain.a under {build}: build the package first, or give a path")
    return paths


def main() -> int:
    """Check what the command line names; 0 when all of it is sound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument("--objdump", default="objdump", help="for foreign objects: the cross one")
    arguments = parser.parse_args()
    problems: list[str] = []
    for path in arguments.paths or default_paths():
        if not path.exists():
            raise SystemExit(f"{path}: no such file or folder")
        problems += check(arguments.objdump, path)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
