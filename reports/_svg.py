"""Turns matplotlib's SVG into one that stands inside a page, small and without inline styles."""

import re
from collections.abc import Iterator
from html import escape
from typing import Final
from xml.etree import ElementTree

_DROPPED: Final = frozenset({"metadata", "style"})
_REFERENCE: Final = re.compile(r"#([\w.-]+)")
_REFERRING: Final = frozenset({"clip-path", "fill", "href", "style"})
_COORDINATES: Final = frozenset({"d", "height", "points", "viewBox", "width", "x", "y"})
_NUMBER: Final = re.compile(r"-?\d+\.\d+")
_UNTURNED: Final = re.compile(r"rotate\(-?0 [^)]*\)")
_LONG: Final = re.compile(r"\d+\.\d{4,}")


class Classes:
    """The styles of all figures of a page, each under the name of a class.

    A strict content policy forbids style attributes; a rule also takes fewer bytes.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, style: str) -> str:
        """Return the class of a style, such as `f3`."""
        return self._names.setdefault(style, f"f{len(self._names)}")

    def rules(self) -> str:
        """Return them as CSS."""
        return "".join(f".{name}{{{style}}}\n" for style, name in self._names.items())


def inline(svg: bytes, prefix: str, classes: Classes, title: str, description: str) -> str:
    """Return an `svg` element for a page.

    Its ids begin with `prefix`, so that several figures of a page share none. Coordinates are
    rounded to a hundredth of a point. Title and description are what a screen reader says.
    """
    root = ElementTree.fromstring(svg)
    names = {name: f"{prefix}-{i}" for i, name in enumerate(_referred(root))}
    box = _rounded("viewBox", root.get("viewBox", ""))
    inner = "".join(_written(child, names, classes) for child in root)
    return (
        f'<svg viewBox="{escape(box)}" role="img"'
        f' aria-labelledby="{prefix}-title {prefix}-desc">'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f'<desc id="{prefix}-desc">{escape(description)}</desc>{inner}</svg>'
    )


def _referred(root: ElementTree.Element) -> list[str]:
    """Return the ids that something refers to; matplotlib gives one to every element."""
    found: dict[str, None] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            if _local(name) in _REFERRING:
                found.update(dict.fromkeys(_REFERENCE.findall(value)))
    known = {element.get("id") for element in root.iter()}
    return [name for name in found if name in known]


def _written(element: ElementTree.Element, names: dict[str, str], classes: Classes) -> str:
    tag = _local(element.tag)
    if tag in _DROPPED:
        return ""
    attributes = "".join(
        f' {name}="{escape(value)}"' for name, value in _attributes(element, names, classes)
    )
    text = escape(element.text or "", quote=False) if tag in ("text", "tspan") else ""
    inner = text + "".join(_written(child, names, classes) for child in element)
    if tag in ("g", "defs") and (not inner or not attributes):
        return f"<{tag}>{inner}</{tag}>" if inner and tag == "defs" else inner
    return f"<{tag}{attributes}>{inner}</{tag}>" if inner else f"<{tag}{attributes}/>"


def _attributes(
    element: ElementTree.Element, names: dict[str, str], classes: Classes
) -> Iterator[tuple[str, str]]:
    for full, value in element.attrib.items():
        name = _local(full)
        if name == "id":
            if value in names:
                yield "id", names[value]
            continue
        if name in _REFERRING:
            value = _REFERENCE.sub(lambda found: f"#{names.get(found[1], found[1])}", value)
        if name == "style":
            yield "class", classes.name(value)
        elif name in _COORDINATES:
            yield name, _rounded(name, value)
        elif name == "transform" and _UNTURNED.fullmatch(value):
            continue
        elif name == "transform":
            # Scales are short already; rounding one would move all that it holds.
            yield name, _LONG.sub(lambda found: f"{float(found[0]):.3f}", value)
        else:
            yield name, value


def _rounded(name: str, value: str) -> str:
    short = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
    if name != "d":
        return short
    return re.sub(r" ?([A-Za-z]) ?", r"\1", " ".join(short.split())).strip()


def _local(name: str) -> str:
    return name.rpartition("}")[2]
