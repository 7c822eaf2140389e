"""Memory of a process, as the kernel tells it."""

import pathlib
import re


def anonymous_kib(pid):
    """Memory of a process that no file is behind: heap and stacks, pages it has given back left out."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {what: int(count) for what, count in re.findall(r"^(\w+):\s+(\d+) kB", rollup, re.M)}
    return kib["Anonymous"] - kib.get("LazyFree", 0)
