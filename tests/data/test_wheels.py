"""Single files out of a wheel: checked, safe, resumable, and clear when offline. The wheels here are made on the spot."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from neuronlens.data import wheels
from neuronlens.data.wheels import wheel_files
from neuronlens.errors import DataError
from neuronlens.storage.cache import Store
from neuronlens.storage.checksums import sha256_of

NAME, VERSION = "madeup", "1.0"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def _wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / f"{NAME}-{VERSION}-py3-none-any.whl"
    meta = f"{NAME}-{VERSION}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    return path


def test_members_are_taken_out_and_kept(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel(index, {"pkg/data/a.txt": b"A", "pkg/model/x/b.bin": b"B", "pkg/evil.py": b"raise SystemExit"})
    store, digest = Store(tmp_path / "cache"), sha256_of(wheel)
    folder = wheel_files(f"{NAME}=={VERSION}", digest, ["pkg/data/a.txt", "pkg/model"], store)
    assert (folder / "pkg/data/a.txt").read_bytes() == b"A"
    assert (folder / "pkg/model/x/b.bin").read_bytes() == b"B"
    assert not (folder / "pkg/evil.py").exists()
    wheel.unlink()  # found again without the index
    assert wheel_files(f"{NAME}=={VERSION}", digest, ["pkg/model", "pkg/data/a.txt"], store) == folder


def test_a_wheel_on_disk_is_not_fetched_twice(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel(index, {"pkg/a.txt": b"A"})
    digest, store = sha256_of(wheel), Store(tmp_path / "cache")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wheels, "_unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wheel_files(f"{NAME}=={VERSION}", digest, ["pkg/a.txt"], store)
    wheel.unlink()
    folder = wheel_files(f"{NAME}=={VERSION}", digest, ["pkg/a.txt"], store)
    assert (folder / "pkg/a.txt").read_bytes() == b"A"


def test_a_half_download_on_disk_is_thrown_away(index: Path, tmp_path: Path) -> None:
    wheel = _wheel(index, {"pkg/a.txt": b"A"})
    digest, store = sha256_of(wheel), Store(tmp_path / "cache")
    kept = store.root / "wheel-downloads" / digest[:16]
    kept.mkdir(parents=True)
    (kept / wheel.name).write_bytes(wheel.read_bytes()[:50])
    assert (wheel_files(f"{NAME}=={VERSION}", digest, ["pkg/a.txt"], store) / "pkg/a.txt").read_bytes() == b"A"


@pytest.mark.parametrize(
    ("requirement", "digest", "member", "said"),
    [
        (NAME, None, "pkg/a.txt", "not pinned"),
        (f"{NAME}=={VERSION}", "0" * 64, "pkg/a.txt", "broken or not the one expected"),
        (f"{NAME}=={VERSION}", None, "pkg/b.txt", "holds no 'pkg/b.txt'"),
        (f"{NAME}==9.9", None, "pkg/a.txt", "Cannot fetch madeup==9.9"),
        ("nowhere==1.0", None, "pkg/a.txt", "check the network"),
    ],
)
def test_a_bad_wheel_is_told_in_one_sentence(
    index: Path, tmp_path: Path, requirement: str, digest: str | None, member: str, said: str
) -> None:
    wheel = _wheel(index, {"pkg/a.txt": b"A"})
    store = Store(tmp_path / "cache")
    with pytest.raises(DataError, match=said) as caught:
        wheel_files(requirement, digest or sha256_of(wheel), [member], store)
    assert "\n" not in str(caught.value)
    assert not list((store.root / "wheel").glob("*")) if (store.root / "wheel").exists() else True


@pytest.mark.parametrize(
    "requirement",
    [
        "x @ file:///tmp/x",
        "x==1 @ file:///tmp/x",
        "--index-url=http://x==1",
        "./x==1",
        "git+https://x/y==1",
        "x[a]==1",
        "x==1; python_version>'3'",
        "x==1.*",
        "x>=1",
        "x==1,==2",
        "x===1",
        "x==1 --no-binary=x",
        "",
    ],
)
def test_only_a_name_and_a_version_reach_pip(requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.subprocess, "run", lambda *arguments, **named: pytest.fail("pip was called"))
    with pytest.raises(DataError, match="Expected NAME==VERSION"):
        wheel_files(requirement, "0" * 64, ["a"], Store(tmp_path))


def test_without_a_hash_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.subprocess, "run", lambda *arguments, **named: pytest.fail("pip was called"))
    with pytest.raises(DataError, match="has no SHA-256"):
        wheel_files("x==1", "", ["a"], Store(tmp_path))


@pytest.mark.parametrize("name", ["pkg/../../escaped.txt", "/pkg/absolute.txt"])
def test_members_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    wheel = _wheel(tmp_path, {name: b"evil"})
    with pytest.raises(DataError, match="points outside"):
        wheels._unpack(wheel, ["pkg" if name.startswith("pkg") else "/pkg"], tmp_path / "out")
    assert not (tmp_path / "escaped.txt").exists()


def test_a_link_inside_a_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.whl"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("pkg/link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="points outside"):
        wheels._unpack(path, ["pkg"], tmp_path / "out")


def test_a_file_that_is_no_zip_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.whl").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="cannot be unpacked"):
        wheels._unpack(tmp_path / "bad.whl", ["pkg"], tmp_path / "out")
