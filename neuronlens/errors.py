"""The errors that a user can cause, each with the sentence that describes it.

Every message says what was given, what was expected, the nearest valid name where there is one, and the next step.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable


class NeuronLensError(Exception):
    """Base of every error caused by input; the command line turns it into exit code 2 and one message."""


class ConfigError(NeuronLensError):
    """A configuration value is unknown, of the wrong type or out of its range."""


class DataError(NeuronLensError):
    """A dataset cannot be read, is empty, or holds too little of a concept."""


class ModelError(NeuronLensError):
    """A model, its checkpoint or its head cannot be used as asked."""


class SiteError(NeuronLensError):
    """A layer or site name matches nothing in the model, or its hook never fired."""


class ShapeError(NeuronLensError):
    """Two arrays that must agree in shape do not."""


class ActivationError(NeuronLensError):
    """Activations hold NaN or infinity, or too few samples for the estimate asked of them."""


class OutputError(NeuronLensError):
    """A result or cache folder cannot be written or read."""


def reason(error: Exception) -> str:
    """Return what an error says, an operating system's without its number and the path, which the message names.

    >>> reason(FileNotFoundError(2, "No such file or directory", "/a"))
    'No such file or directory'
    """
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def nearest(name: str, available: Iterable[str]) -> str | None:
    """Return the entry of `available` that looks most like `name`, or None when nothing does.

    >>> nearest("gausian", ["gaussian", "quantile"])
    'gaussian'
    """
    found = difflib.get_close_matches(name, [str(entry) for entry in available], n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, name: str, available: Iterable[str], next_step: str = "") -> str:
    """Return the sentence for a name that is not known: got, nearest, available, next step.

    >>> unknown("edit", "zeroo", ["zero", "mean"])
    "Unknown edit 'zeroo'. Did you mean 'zero'? Available: mean, zero."
    """
    options = sorted(str(entry) for entry in available)
    near = nearest(name, options)
    parts = [f"Unknown {kind} '{name}'."]
    if near and near != name:
        parts.append(f"Did you mean '{near}'?")
    parts.append(f"Available: {', '.join(options)}." if options else "There is none to choose from.")
    if next_step:
        parts.append(f"Next: {next_step}")
    return " ".join(parts)


LONGEST_NAME = 120
"""Characters of a folder's name; file systems take 255 bytes."""
HARMLESS = "\n\t"
_FORMATS = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    r"""Return a text whose control characters are written out, so that it cannot forge lines or move the cursor.

    >>> printable("a\x1b[2Jb\r"), printable("two\nlines")
    ('a\\x1b[2Jb\\r', 'two\nlines')
    """
    return "".join(
        character
        if character in HARMLESS or unicodedata.category(character) not in _FORMATS or character == "\u200d"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    r"""Return a text as it stands on one line of a log.

    >>> one_line("a label\nERROR forged")
    'a label\\nERROR forged'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def file_name(name: str) -> str:
    """Return a name as a folder can have it: one step of a path, of known length, that leads nowhere else.

    >>> file_name("minilm-newsgroups20"), file_name("org/model"), file_name(".."), file_name("../../y")
    ('minilm-newsgroups20', 'org-model', 'unnamed', 'y')
    """
    kept = re.sub(r"[^\w.+=@,() -]+", "-", str(name)).strip(" .-")
    if len(kept.encode()) > LONGEST_NAME:
        digest = hashlib.sha256(str(name).encode("utf-8", "replace")).hexdigest()[:8]
        kept = f"{kept.encode()[: LONGEST_NAME - 9].decode('utf-8', 'ignore')}-{digest}"
    return kept or "unnamed"
