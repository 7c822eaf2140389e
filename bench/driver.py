"""One run of the load generator against a server under test."""

import json
import pathlib
import subprocess
import sys
import tempfile

from servers import BIN
from tables import say


def generate(command, server, port, seconds, *flags, cpus="1", warmup=2):
    """One run of the load generator; its JSON with the server's CPU added."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        words = [BIN / "loadgen", command, "--target", f"127.0.0.1:{port}", "--processors", cpus,
                 "--warmup", f"{warmup}s", "--quiet", "--json", result.name, *map(str, flags)]
        if not any(str(flag) == "--count" for flag in flags):
            words += ["--duration", f"{seconds}s"]
        before = server.cpu()
        done = subprocess.run(words, capture_output=True, text=True)
        used = server.cpu() - before
        if done.returncode:
            say(f"loadgen {command} on {server.name}: {done.stdout}{done.stderr}")
        found = json.loads(pathlib.Path(result.name).read_text())
    rate = found["done_per_s"]
    share = found["elapsed_s"] / (found["elapsed_s"] + warmup)
    verbs = found["verbs"]
    if not verbs:
        sys.exit(f"{server.name}: nothing was done, see above")
    whole = verbs.get("message") or verbs.get("session") or next(iter(verbs.values()))
    return {
        "rate": rate,
        "p50_ms": whole["p50_ns"] / 1e6,
        "p99_ms": whole["p99_ns"] / 1e6,
        "max_ms": whole["max_ns"] / 1e6,
        # The generator's count leaves the warm-up out, so the CPU is scaled to the same part.
        "server_us": used * share / max(found["done"], 1) * 1e6,
        "loadgen_us": found["cpu_us_each"],
        "failed": found["failed"],
    }
