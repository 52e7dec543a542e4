"""Which pages are generated as a whole, and which parts of hand-written pages."""


def generated() -> dict[str, str]:
    """The text of the pages that are generated as a whole, by their path on the site."""
    return {}


def filled(markdown: str) -> str:
    """A page's text with its marks of generated parts replaced."""
    return markdown
