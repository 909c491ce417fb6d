#!/usr/bin/env python3
"""Builds the file system of the virtual machine, as the kernel unpacks it into memory.

usage: initramfs.py OUTPUT BUSYBOX INIT [FILE_OR_DIRECTORY[:PLACE]...]

A cpio archive in the "newc" format, compressed with gzip (kernel: Documentation/driver-api/early-userspace/
buffer-format.rst). Each FILE goes to the same PLACE in the machine unless another is named, with the shared libraries
that ldd(1) finds for it; links are followed. BUSYBOX is /bin/busybox, to which the usual commands are links; INIT is
/init, the machine's first process.
"""

import gzip
import os
import re
import stat
import subprocess
import sys

COMMANDS = (
    "cat chmod cp cut date dmesg echo env false free grep head hostname ip kill ln ls mkdir mknod mount mv poweroff ps rm "
    "rmdir sed sleep sort stat sync tail test touch tr true umount uname wc"
).split()
# Of Python's library: what takes room, and no scenario imports.
LEFT_OUT = {"test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils", "config-3.11-x86_64-linux-gnu", "dist-packages"}


class Archive:
    def __init__(self, output):
        self._output = output
        self._places = set()

    def directory(self, place):
        if place in ("", "/") or place in self._places:
            return
        self.directory(os.path.dirname(place))
        self._add(place, stat.S_IFDIR | 0o755, b"")

    def file(self, place, data, mode):
        if place not in self._places:
            self.directory(os.path.dirname(place))
            self._add(place, stat.S_IFREG | mode, data)

    def link(self, place, target):
        self.directory(os.path.dirname(place))
        self._add(place, stat.S_IFLNK | 0o777, target.encode())

    def close(self):
        self._add("TRAILER!!!", 0, b"")

    def _add(self, place, mode, data):
        self._places.add(place)
        name = place.lstrip("/").encode() + b"\0"
        fields = (len(self._places), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self._output.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


def libraries(path):
    """What ldd names for a program or library; nothing for a script or a static program."""
    done = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.M) if done.returncode == 0 else []


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def add(archive, path, place):
    if os.path.isdir(path):
        archive.directory(place)
        for name in sorted(os.listdir(path)):
            if name not in LEFT_OUT:
                add(archive, os.path.join(path, name), os.path.join(place, name))
        return
    if not os.path.isfile(path):
        return  # a link that leads nowhere
    with open(path, "rb") as file:
        archive.file(place, file.read(), os.stat(path).st_mode & 0o777)
    if is_elf(path):
        for library in libraries(path):
            add(archive, library, library)


def main():
    output, busybox, init, *contents = sys.argv[1:]
    with gzip.open(output, "wb", compresslevel=1) as stream:
        archive = Archive(stream)
        for place in ("/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var", "/etc"):
            archive.directory(place)
        archive.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
        archive.file("/etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        add(archive, busybox, "/bin/busybox")
        for command in COMMANDS:
            archive.link("/bin/" + command, "busybox")
        add(archive, init, "/init")
        for content in contents:
            path, _, place = content.partition(":")
            add(archive, path, place or path)
        archive.close()


if __name__ == "__main__":
    main()
