"""Reading /metrics of a sidecar."""

import re


def series(text, name):
    """[({label: value}, value)] of a metric."""
    return [(dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[1] or "")), float(found[2]))
            for found in re.finditer(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.M)]


def total(text, name, **labels):
    """The sum of a metric's series that have these labels."""
    return sum(value for own, value in series(text, name) if labels.items() <= own.items())
