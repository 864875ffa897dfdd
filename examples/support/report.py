"""What the run shows: tables for people as they come, and the same as one JSON object."""

import datetime


class Report:
    def __init__(self):
        self.good = True
        self._seen = {}
        self._facts = []
        self._section = None

    def seen_in(self, place):
        self._seen["place"] = place.name

    def title(self, text):
        print(text, flush=True)

    def section(self, key, title):
        self._section = key
        self._seen[key] = {}
        print(f"\n{title}\n{'-' * len(title)}")

    def seen(self, **values):
        """For programs only."""
        self._seen[self._section].update(values)

    def line(self, text):
        print(f"  {text}", flush=True)

    def table(self, head, rows):
        """The first column to the left, the others to the right."""
        rows = [[str(cell) for cell in row] for row in (head, *rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]
            print("  " + "   ".join(cells).rstrip())
        print(flush=True)

    def fact(self, key, holds, text, otherwise=None):
        """Something that was promised; without it the run has failed."""
        self.good = self.good and bool(holds)
        self._facts.append({"section": self._section, "fact": key, "holds": bool(holds),
                            "text": text if holds else otherwise or text})
        print(f"  {'ok ' if holds else 'NOT'}  {text if holds else otherwise or text}", flush=True)

    def summary(self, good):
        return {"good": good, "facts": self._facts, **self._seen}


def clock(at_us):
    """Microseconds since 1970 as a time of day."""
    return datetime.datetime.fromtimestamp(at_us / 1e6).strftime("%H:%M:%S.%f")[:-3]


def percentile(values, percent):
    """The smallest value that at least that share is not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0


def milliseconds(values_us, percent):
    return f"{percentile(values_us, percent) / 1000:.2f} ms"
