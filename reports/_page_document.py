"""One HTML file from a template: escaped, with its style and its script, and a strict policy."""

import base64
import hashlib
from pathlib import Path
from typing import Any, Final

from bench.text import plain

TEMPLATES: Final = Path(__file__).parent / "templates"


def document(template: str, *, style: str = "", **content: Any) -> str:
    """Return a page that holds all it needs and may load nothing.

    Every text is made `plain` and escaped; only what is `Markup` already stays as it is. `style`
    comes after the style of all pages.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    styled = (TEMPLATES / "page.css").read_text("utf-8") + style
    script = (TEMPLATES / "page.js").read_text("utf-8")
    return environment.get_template(template).render(
        **content,
        policy=_policy(styled, script),
        style=Markup(styled),
        script=Markup(script),
    )


def _policy(style: str, script: str) -> str:
    """Allow this style and this script, by their digests, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    """Return the digest of what stands between the tags.

    Raises:
        ValueError: The text would end its element.
    """
    if "</" in text:
        raise ValueError("a style or script cannot hold an end tag")
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
