"""Whether a completion gives an attribute's value, by sae-bench's rules, and whether it is settled yet.

The rules are those of `sae_bench.evals.ravel.validation` for countries, continents, languages, fields and
gender. One differs: there `England` is right for the United States too, here for the United Kingdom alone.
"""

_ENGLISH_NAMES = ("United States", "United Kingdom")
_NEVER_SETTLED = (*_ENGLISH_NAMES, "South Korea", "North America", "Mandarin", "/", ",")


def is_right(text: str, label: str, completion: str) -> bool:
    """Whether `completion`, written by a model after `text`, gives `label`; case is ignored."""
    wanted, written = label.lower(), _written(completion)
    if not label or not written:
        return False
    if any(name in label for name in _ENGLISH_NAMES):
        start = completion.strip().replace("the ", "")
        return start.startswith(label.strip().replace("the ", "")) or (
            "United Kingdom" in label and start.startswith("England")
        )
    if "South Korea" in label:
        return written.startswith(("korea", "south korea"))
    if "North America" in label:
        return wanted in written or written == "na" or written.startswith("america")
    if "Mandarin" in label:
        return written in wanted or written == "chinese"
    if "language" in text and "," in wanted:
        return any(language in written for language in wanted.split(","))
    return written.startswith(wanted) if len(wanted) < len(written) else wanted.startswith(written)


def is_settled(label: str, completion: str) -> bool:
    """Whether no further token can change what `is_right` says, so that no more need be generated."""
    # The last token may be the first part of a character.
    if any(name in label for name in _NEVER_SETTLED) or completion.endswith("\N{REPLACEMENT CHARACTER}"):
        return False
    wanted, written = label.lower(), _written(completion)
    if '"' in completion:
        return True
    return len(written) >= len(wanted) or not wanted.startswith(written)


def _written(completion: str) -> str:
    """What stands before the first quotation mark."""
    return completion.split('"')[0].strip(' "').replace("\\/", "/").lower()
