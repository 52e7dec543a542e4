"""Whether a completion gives an attribute's value, by sae-bench's rules, and whether this is decided yet.

The rules are those of `sae_bench.evals.ravel.validation` for countries, continents, languages, fields and
gender, with one difference: sae-bench also accepts `England` for the United States, whereas here it is
correct for the United Kingdom only.
"""

_ENGLISH_NAMES = ("United States", "United Kingdom")
_NEVER_SETTLED = (*_ENGLISH_NAMES, "South Korea", "North America", "Mandarin", "/", ",")


def is_right(text: str, label: str, completion: str) -> bool:
    """Whether `completion`, which a model wrote after `text`, gives `label`; case is ignored."""
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
    """Whether no further token can change the result of `is_right`, so that generation can stop."""
    # The last token may end in the middle of a character.
    if any(name in label for name in _NEVER_SETTLED) or completion.endswith("\N{REPLACEMENT CHARACTER}"):
        return False
    wanted, written = label.lower(), _written(completion)
    if '"' in completion:
        return True
    return len(written) >= len(wanted) or not wanted.startswith(written)


def _written(completion: str) -> str:
    """The text before the first quotation mark, normalised and in lower case."""
    return completion.split('"')[0].strip(' "').replace("\\/", "/").lower()
