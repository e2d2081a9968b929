"""Which language the page begins in."""

from __future__ import annotations

LANGUAGES = ("en", "de")
"""Those of static/words.json; the first is for whoever asks for none of them."""


def language_of(accepted: str) -> str:
    """The first of ours that the header `Accept-Language` names, by its weights.

    Example:
        >>> language_of("fr, de-AT;q=0.9, en;q=0.5")
        'de'
    """
    wanted: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        tag, _, weight = part.strip().lower().partition(";q=")
        try:
            wanted.append((float(weight or 1), tag.split("-")[0]))
        except ValueError:
            continue
    best = sorted(wanted, key=lambda one: -one[0])
    return next((tag for weight, tag in best if tag in LANGUAGES and weight > 0), LANGUAGES[0])
