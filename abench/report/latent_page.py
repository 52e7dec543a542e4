"""One latent as a self-contained HTML page."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from abench.report.shading import sides_of
from abench.sanitize.printable import all_visible, visible

if TYPE_CHECKING:
    from jinja2 import Template

    from abench.latents.latent_card import LatentCard


def latent_page(title: str, card: "LatentCard", *, back: str | None = None) -> str:
    """The HTML page of a latent; everything that comes from texts and models is escaped.

    `back` is the file of the list that the page links to, relative to the page.
    """
    plain = all_visible(card.plain())
    contexts = plain["contexts"]
    return template("latent.html.j2").render(
        title=visible(title),
        card=plain,
        back=None if back is None else quote(back),
        sides=[] if contexts is None else sides_of(contexts, signed=card.signed),
        lists=all_visible(
            {
                "Nearest latents": card.nearest,
                "Most opposite latents": card.opposite,
                "Logits it promotes": card.promoted,
                "Logits it suppresses": card.suppressed,
            }
        ),
    )


def template(name: str) -> "Template":
    """A template of a page about latents, which escapes what it is given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("abench.report", "templates")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=loader, autoescape=True, **options).get_template(name)
