"""Pictures of comparisons, as SVG in the style of loadgen's pages (loadgen/src/page/style.css).

Light or dark as the reader likes; each value is told in the table beside the picture, too.
"""

import html
import math
import pathlib

STYLE = pathlib.Path(__file__).resolve().parent.parent / "loadgen" / "src" / "page" / "style.css"
WIDTH, LEGEND, ROW, FOOT = 1000, 26, 30, 46


def number(value):
    """Short, with commas between thousands."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


class Log:
    """A logarithmic axis over whole steps of 1, 2, 5, or powers of ten if there are many, that holds all the
    values."""

    def __init__(self, values, steps=None):
        lowest, highest = min(values), max(values)
        steps = steps or ((1, 2, 5) if highest < 1000 * lowest else (1,))
        decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
        marks = [step * 10.0 ** decade for decade in decades for step in steps]
        self.low = max((mark for mark in marks if mark <= lowest), default=lowest)
        self.high = min((mark for mark in marks if mark >= highest), default=highest)
        self.high = self.high if self.high > self.low else self.low * 10
        self.ticks = [mark for mark in marks if self.low <= mark <= self.high]

    def place(self, value):
        return math.log(value / self.low) / math.log(self.high / self.low)


class Picture:
    def __init__(self, height, label):
        self.height, self.label, self.parts = height, label, []

    def text(self, at, text, kind=""):
        self.parts.append(f'<text class="{kind}" x="{at[0]:.1f}" y="{at[1]:.1f}">{html.escape(text)}</text>')

    def line(self, points, kind):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="{kind}" d="M{path}"/>')

    def dot(self, at, colour, told):
        self.parts.append(f'<path class="dot c{colour}" style="stroke-width:10" d="M{at[0]:.1f} {at[1]:.1f}h0">'
                          f"<title>{html.escape(told)}</title></path>")

    def legend(self, names):
        x = 8
        for colour, name in enumerate(names):
            self.line([(x, 12), (x + 18, 12)], f"line c{colour}")
            self.text((x + 24, 16), name, "name")
            x += 44 + 7 * len(name)
        return x

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" class="chart" role="img" '
                f'aria-label="{html.escape(self.label)}">\n'
                f"<style>{STYLE.read_text()} svg {{ background: var(--card); }}</style>\n"
                + "\n".join(self.parts) + "\n</svg>\n")


def dots(label, axis_title, names, rows, goal=None):
    """A row of dots for each entry of `rows`: (what, values as `names`, text at the end of the row). A value may be
    None. `goal`: (its name, one value for each row), drawn as a bar across the row."""
    left, right, top = 290, WIDTH - 130, LEGEND + 12
    bottom = top + ROW * len(rows)
    picture = Picture(bottom + FOOT, label)
    x = picture.legend(names)
    # What noise has made nothing or less has no place on this axis.
    shown = lambda value: value is not None and value > 0
    found = [value for _, values, _ in rows for value in values if shown(value)]
    axis = Log([*found, *(goal[1] if goal else [])])
    at = lambda value: left + axis.place(value) * (right - left)
    for tick in axis.ticks:
        picture.line([(at(tick), top), (at(tick), bottom)], "grid")
        picture.text((at(tick), bottom + 17), number(tick), "tick middle")
    picture.text((right, bottom + 38), f"{axis_title}, logarithmic", "axis end")
    if goal:
        picture.line([(x + 9, 6), (x + 9, 18)], "line over0")
        picture.text((x + 20, 16), goal[0], "name")
    for index, (what, values, told) in enumerate(rows):
        y = top + ROW * (index + 0.5)
        picture.text((8, y + 4), what, "name")
        there = [at(value) for value in values if shown(value)]
        if there:
            picture.line([(min(there), y), (max(there), y)], "zero")
        if goal:
            picture.line([(at(goal[1][index]), y - 7), (at(goal[1][index]), y + 7)], "line over0")
        for colour, value in reversed(list(enumerate(values))):
            if shown(value):
                picture.dot((at(value), y), colour, f"{what}, {names[colour]}: {number(value)}")
        picture.text((right + 16, y + 4), told, "name")
    return picture.svg()


def panels(label, axis_title, x_title, names, charts):
    """Small charts beside each other over the same axes: `charts` are (title, [points of each of `names`])."""
    left, gap, top, bottom = 56, 22, LEGEND + 44, 330
    picture = Picture(bottom + FOOT, label)
    picture.legend(names)
    points = [point for _, lines in charts for line in lines for point in line]
    across, up = Log([x for x, _ in points], (1,)), Log([y for _, y in points])
    width = (WIDTH - left - 14 - gap * (len(charts) - 1)) / len(charts)
    picture.text((8, LEGEND + 14), f"{axis_title}, logarithmic", "axis")
    picture.text((WIDTH - 14, bottom + 38), f"{x_title}, logarithmic", "axis end")
    sizes = sorted({x for x, _ in points})
    for index, (title, lines) in enumerate(charts):
        start = left + index * (width + gap)
        at = lambda x, y, start=start: (start + across.place(x) * width, bottom - up.place(y) * (bottom - top))
        picture.text((start + width / 2, top - 8), title, "name middle")
        for tick in up.ticks:
            picture.line([at(across.low, tick), at(across.high, tick)], "grid")
            if index == 0:
                picture.text((left - 7, at(across.low, tick)[1] + 4), number(tick), "tick end")
        for size in sizes:
            picture.line([at(size, up.low), at(size, up.high)], "grid")
            kind = "middle" if across.low < size < across.high else "end" if size >= across.high else ""
            picture.text((at(size, up.low)[0], bottom + 17), f"{size:,}", f"tick {kind}")
        for colour, line in reversed(list(enumerate(lines))):
            if line:
                picture.line([at(*point) for point in line], f"line c{colour}")
            for x, y in line:
                picture.dot(at(x, y), colour, f"{title}, {x:,} messages, {names[colour]}: {number(y)}")
    return picture.svg()
