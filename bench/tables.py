"""Results of comparisons: tables, the machine, and the folder they are kept in."""

import datetime
import os
import pathlib
import platform
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def say(text=""):
    print(text, flush=True)


def median(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


class Table:
    """Markdown on the screen, JSON in the results. `picture`: an SVG of it, kept beside them."""

    def __init__(self, title, *columns):
        self.title, self.columns, self.rows, self.notes, self.picture = title, columns, [], [], None

    def row(self, *cells):
        self.rows.append([f"{c:,.2f}" if isinstance(c, float) and abs(c) < 100
                          else f"{c:,.0f}" if isinstance(c, (int, float)) else str(c) for c in cells])

    def note(self, text):
        self.notes.append(text)

    def text(self, picture=None):
        """`picture`: where it is, for the page."""
        widths = [max(len(str(r[i])) for r in [self.columns, *self.rows]) for i in range(len(self.columns))]
        line = lambda cells: "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths)) + " |"
        out = [f"### {self.title}", "", line(self.columns), "|" + "|".join("-" * (w + 2) for w in widths) + "|"]
        out += [line(row) for row in self.rows]
        out += ["", f"![{self.title}]({picture})"] if picture else []
        return "\n".join(out + [""] + [note + "\n" for note in self.notes])


def verdict(value, bound, at_least=True):
    good = value >= bound if at_least else value <= bound
    return f"{value:.2f} ({'≥' if at_least else '≤'} {bound}: {'yes' if good else 'NO'})"


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    where = subprocess.run(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", "."], capture_output=True, text=True, cwd=ROOT)
    return {"cpu": model.group(1) if model else "?", "cpus": os.cpu_count(), "kernel": platform.release(),
            "filesystem": where.stdout.strip()}


def folder():
    """bench/runs/DATE-COMMIT."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    day = datetime.date.today().isoformat()
    return ROOT / "bench" / "runs" / f"{day}-{commit.stdout.strip() or 'none'}"
