"""What mkdocs asks while it builds the site: files beside the pages are in the repository, and not
in the site, so that a link to one is its name there.
"""

import re

__all__ = ["on_page_markdown"]

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page's text without links that lead out of docs/."""

    def named(found: re.Match[str]) -> str:
        text, name = found[1], found[2]
        return f"`{name}`" if text in name else f"{text} (`{name}`)"

    return _OUTSIDE.sub(named, markdown)
