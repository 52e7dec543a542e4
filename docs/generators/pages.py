"""Which pages are generated as a whole, and which parts of hand-written pages.

A line `{{ NAME ARGUMENT }}` of a page stands for the text that PARTS[NAME] makes of the argument.
"""

import re
from collections.abc import Callable, Mapping

from generators import commands, gallery, keys, names, reliability, tasks, variants

PARTS: Mapping[str, Callable[[str], str]] = {
    "commands": commands.summary,
    "gallery": gallery.page_part,
    "keys": keys.table_of,
    "metrics": tasks.columns,
    "declared": tasks.declared,
    "definition": tasks.definition,
    "tasks": tasks.overview,
    "reliability": reliability.figures,
    "reliability_study": reliability.study,
    "variant": variants.facts,
}
_MARK = re.compile(r"^\{\{ (\w+) ?(\S*) \}\}$", re.MULTILINE)


def generated() -> dict[str, str]:
    """The text of the pages that are generated as a whole, by their path on the site."""
    return {"reference/commands.md": commands.page(), "reference/keys.md": keys.page(), **names.pages()}


def filled(markdown: str) -> str:
    """A page's text with its marks replaced; KeyError for the name of a part that does not exist."""
    return _MARK.sub(lambda mark: PARTS[mark[1]](mark[2]), markdown)
