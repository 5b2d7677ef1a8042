"""A hook of MkDocs: links to files beside `docs/` lead to the repository.

In the repository browser such a link is relative. The site has only the pages.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

_PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - MkDocs' signature
    """Return the page with links to the repository where they leave the folder of the pages."""
    source = tomllib.loads(_PROJECT.read_text())["project"]["urls"]["Source"]
    return re.sub(r"\]\(\.\./", f"]({source}/blob/main/", markdown)
