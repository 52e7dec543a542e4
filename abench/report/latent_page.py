"""One latent as a self-contained HTML page."""

from typing import TYPE_CHECKING, Any

from abench.report.shading import sides_of
from abench.sanitize.printable import all_visible, visible

if TYPE_CHECKING:
    from abench.latents.latent_card import LatentCard


def latent_page(title: str, card: "LatentCard") -> str:
    """The HTML page of a latent; everything that comes from texts and models is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("abench.report", "templates")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    template = Environment(loader=loader, autoescape=True, **options).get_template("latent.html.j2")
    plain = all_visible(card.plain())
    contexts = plain["contexts"]
    return template.render(
        title=visible(title),
        card=plain,
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
