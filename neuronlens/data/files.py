"""Reads tables from files as they are written: every cell text, nothing guessed, and a broken file named with its line."""

from __future__ import annotations

import bz2
import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from neuronlens.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

KINDS = {".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "json", ".parquet": "parquet"}
"""The endings of tables; text may be packed as well."""
PACKED: Mapping[str, Callable[..., IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open}  # type: ignore[dict-item]
READERS = (*KINDS, *PACKED)
"""Every ending of a file that `read_table` takes; a packed one without another ending is a csv."""
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""The names that a split's file goes by."""
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"PK\x03\x04": "zip", b"version https://git-lfs": "git-lfs"}
"""How files begin that are no plain UTF-8 text."""


def read_table(path: Path, options: Mapping[str, Any]) -> pd.DataFrame:
    """Return a file's rows; a cell is its text as it is written, None where there is none, or a list or mapping.

    No reader's idea of numbers and missing values is applied: `007`, `1.0`, `NA` and `None` are texts.

    Args:
        options: for a csv reader, as pandas calls them; tabs separate .tsv and .tab files by themselves.

    Raises:
        DataError: missing, empty, in another encoding, or not the kind of file that its name says; with the line.
    """
    if not path.is_file():
        raise DataError(f"The file {path} is not there. Next: another path.")
    kind = kind_of(path)
    assert kind is not None, "a table by its name"
    _refuse_foreign(path, options)
    readers = {"csv": _read_csv, "json": _read_jsonl, "parquet": _read_parquet}
    if options and kind != "csv":
        raise DataError(f"{path} is a {path.suffix} file, and read_options are for .csv and the like: {list(options)}.")
    return readers[kind](path, options)


def split_files(
    folder: Path, splits: Sequence[str], option: str, names: Mapping[str, Sequence[str]] = NAMES
) -> tuple[dict[str, Path], list[str]]:
    """Return the file of each split that a folder holds, and the names of tables there that are none of them.

    Args:
        option: the config entry that named the folder.
        names: what the file of a split may be called; a split without an entry is called by its own name.

    Raises:
        DataError: not a folder, no file of any split, or two of one.
    """
    if not folder.is_dir():
        there = "is a file" if folder.is_file() else "is not there"
        raise DataError(
            f"{option} '{folder}' is not a folder: it {there}. Expected a folder with {splits[0]}.csv or the like."
        )
    tables = sorted(path for path in folder.iterdir() if kind_of(path) is not None and path.is_file())
    files: dict[str, Path] = {}
    for split in splits:
        found = [path for path in tables if path.name.partition(".")[0].lower() in names.get(split, (split,))]
        if len(found) > 1:
            raise DataError(f"{folder} holds {' and '.join(p.name for p in found)}. Expected one file per split.")
        if found:
            files[split] = found[0]
    if not files:
        wanted = " or ".join([", ".join(splits[:-1])] * (len(splits) > 1) + [splits[-1]])
        others = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{folder} holds no {wanted} file, but {others}. Expected .csv, .tsv, .parquet or .jsonl, as in {splits[0]}.csv."
        )
    return files, [path.name for path in tables if path not in files.values()]


def kind_of(path: Path) -> str | None:
    """Return how a file is read by its name: as `csv`, `json` or `parquet`; None of a name that no table has.

    >>> kind_of(Path("a.TSV")), kind_of(Path("a.jsonl.gz")), kind_of(Path("a.gz")), kind_of(Path("a.parquet.gz"))
    ('csv', 'json', 'csv', None)
    """
    if path.suffix.lower() not in PACKED:
        return KINDS.get(path.suffix.lower())
    inner = Path(path.stem).suffix.lower()
    return None if KINDS.get(inner) == "parquet" else KINDS.get(inner, "csv")


def file_tables(files: Mapping[str, Sequence[Path]], options: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables of each split, its files one after the other; all of them are of one kind.

    Raises:
        DataError: as `read_table` does; or files of several kinds.
    """
    import pandas as pd

    kinds = sorted({str(kind_of(path)) for paths in files.values() for path in paths})
    if len(kinds) > 1:
        raise DataError(f"The files of one dataset are of several kinds: {', '.join(kinds)}. Expected one.")
    found = {split: [read_table(path, options) for path in paths] for split, paths in files.items()}
    return {
        split: parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True) for split, parts in found.items()
    }


def _refuse_foreign(path: Path, options: Mapping[str, Any]) -> None:
    """Refuse files that are empty, or begin as no table of ours does."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise DataError(f"{path} is empty: it has no byte. Next: fill it, or take it away.")
    mark = next((name for bytes_, name in MARKS.items() if start.startswith(bytes_)), None)
    if mark == "utf-16" and "encoding" not in options:
        raise DataError(f"{path} is UTF-16, expected UTF-8. Next: ++dataset.read_options.encoding=utf-16.")
    if mark == "zip":
        raise DataError(f"{path} is a ZIP archive or an Excel sheet, expected plain text. Next: save it as CSV, UTF-8.")
    if mark == "git-lfs":
        raise DataError(f"{path} is a Git LFS pointer and not the file itself. Next: git lfs pull.")


def _read_csv(path: Path, options: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    separator = {"sep": "\t"} if {".tsv", ".tab"} & {part.lower() for part in path.suffixes} else {}
    own = {"dtype": str, "keep_default_na": False, "na_filter": False, "encoding": "utf-8-sig"}
    try:
        table = pd.read_csv(path, **{**separator, **own, **options})
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path, error)) from error
    except TypeError as error:
        words = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        raise DataError(
            f"dataset.read_options has {words[1] if words else 'an option'}, which pandas' read_csv does not take so. "
            "Expected sep, quotechar, encoding, skiprows or another option of it."
        ) from error
    except (ValueError, LookupError, OSError, EOFError) as error:  # pandas' ParserError is a ValueError
        if "No columns to parse" in str(error):
            raise DataError(f"{path} is empty: it has no header. Next: fill it, or take it away.") from error
        raise DataError(_ragged(path, str(error))) from error
    return table.astype(object).where(table.notna(), None)


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    with PACKED.get(path.suffix.lower(), open)(path, "rb") as file:
        content = file.read()
    place = next((n for n, line in enumerate(content.split(b"\n"), 1) if not _is_utf8(line)), None)
    where = f" in line {place}" if place is not None else ""
    return (
        f"{path} is not UTF-8: byte {error.object[error.start]:#04x}{where}. Next: save it as UTF-8, or name its encoding, "
        "such as ++dataset.read_options.encoding=latin-1."
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _ragged(path: Path, reason: str) -> str:
    found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason)
    if found:
        return (
            f"{path} has {found[3]} cells in line {found[2]}, expected {found[1]} as in its header. Next: put quotes around "
            "text that holds the separator, or name another one: ++dataset.read_options.sep=';'."
        )
    row = re.search(r"starting at row (\d+)", reason)
    if row:
        return f"{path} opens a quote in row {row[1]} that never closes. Next: close it, or ++dataset.read_options.quoting=3."
    return f"Cannot read {path}: {' '.join(reason.split())[:200]}. Next: check the file, or ++dataset.read_options."


def _read_jsonl(path: Path, options: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    try:
        with PACKED.get(path.suffix.lower(), open)(path, "rb") as file:
            lines = file.read().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path, error)) from error
    except (OSError, EOFError) as error:
        raise DataError(f"Cannot read {path}: {' '.join(str(error).split())[:200]}. Next: write it again.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:  # numbers stay as they are written
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} holds no JSON in line {number}: {str(error)[:80]}. Next: one object a line."
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{path} holds {type(row).__name__} in line {number}, expected an object: one per line.")
        rows.append({name: _text(value) for name, value in row.items()})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns})


def _read_parquet(path: Path, options: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.parquet as pq  # type: ignore[import-untyped]
    from pyarrow import ArrowException

    try:
        table = pq.ParquetFile(path).read()
        columns = {
            name: [_text(value) for value in column.to_pylist()]
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(
            f"Cannot read {path} as parquet: {' '.join(str(error).split())[:160]}. Next: write it again, or copy it anew."
        ) from error
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _text(value: Any) -> Any:
    """Return a cell as text: numbers as they are printed, truth values as JSON writes them; lists and mappings as they are."""
    if value is None or isinstance(value, (str, list, dict)):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value != value:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
