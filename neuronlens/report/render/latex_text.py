"""Any text as LaTeX that every engine sets: pure ASCII, every special character escaped, no package needed."""

from __future__ import annotations

import unicodedata

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "`": r"\`{}",
    "[": "{[}",  # a row that began with it would give the line break above an argument; so would a star
    "*": "{*}",
    **{mark: "\\" + mark for mark in "_%&#${}"},
}
SYMBOLS = {
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "÷": r"$\div$",
    "⁄": "/",
    "∞": r"$\infty$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "∈": r"$\in$",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "•": r"$\bullet$",
    "°": r"$^\circ$",
    "§": r"\S{}",
    "©": r"\copyright{}",
    "£": r"\pounds{}",
    "¡": "!`",
    "¿": "?`",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
GREEK_CAPITALS = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
GREEK = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
"""
# LaTeX's accent command for a Unicode combining mark.
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def _greek() -> dict[str, str]:
    names = dict.fromkeys(GREEK.split(), "SMALL") | dict.fromkeys(GREEK_CAPITALS, "CAPITAL")
    spelled = {name: name.upper().replace("LAMBDA", "LAMDA") for name in names}  # as Unicode writes it
    return {unicodedata.lookup(f"GREEK {size} LETTER {spelled[name]}"): f"$\\{name}$" for name, size in names.items()}


KNOWN = SPECIAL | SYMBOLS | _greek()


def escape(text: str) -> str:
    r"""Return text as LaTeX that shows it: ASCII only, on one line, with no command or group of its own.

    Accented Latin letters, Greek and common signs are set as such; a character of another script is shown as its code
    point, since pdflatex has no glyph for it.

    >>> print(escape("50% of talk_politics & café, τ ≥ 2"))
    50\% of talk\_politics \& caf\'{e}, $\tau$ $\geq$ 2
    """
    shown = "".join(_character(character) for character in unicodedata.normalize("NFC", text))
    return " ".join(shown.split())


def _character(character: str) -> str:
    if character in KNOWN:
        return KNOWN[character]
    if character.isspace():
        return " "
    if character.isascii():
        return character if character.isprintable() else ""
    parts = unicodedata.normalize("NFD", character)
    base, marks = parts[0], parts[1:]
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in ACCENTS:
        return f"\\{ACCENTS[marks[0]]}{{{base}}}"
    plain = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    if plain and plain != character:
        return "".join(_character(part) for part in plain)
    return f"U+{ord(character):04X}"
