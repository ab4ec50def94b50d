# SPDX-License-Identifier: Apache-2.0
"""Debian's package descriptions as judged text: a short one asks for its package's long one."""

from __future__ import annotations

import lzma
import re

from bigrain_bench import fetch

URL = "http://deb.debian.org/debian/dists/bookworm/main/i18n/Translation-en.xz"
DIGEST = "a3d4a0bfd8e9242810b0885eda7c1a6e05dac15b333ddbaab03ba56f2dfa4bf0"
# Below, a description repeats its package's name.
SHORTEST_DOCUMENT, SHORTEST_QUERY = 80, 3  # characters, words
# A line of a full stop ends a paragraph.
STANZA = re.compile(r"^Description-en: (.*)\n((?: .*(?:\n|$))*)", re.MULTILINE)


def descriptions() -> dict[str, dict[str, None]]:
    """Every long description with its short ones, as release 12 has them."""
    archive = fetch.http_file(URL, "debian-bookworm-descriptions.xz")
    if (found := fetch.sha256(archive)) != DIGEST:
        raise fetch.FetchError(f"{archive}: SHA-256 is {found}, expected {DIGEST}: delete it")
    return parse(lzma.decompress(archive.read_bytes()).decode("utf-8"))


def parse(text: str) -> dict[str, dict[str, None]]:
    """Of one short description with several long ones all are answers."""
    found: dict[str, dict[str, None]] = {}
    for short, rest in STANZA.findall(text):
        long = " ".join(re.sub(r"\n \.(?=\n)", "\n", rest).split())
        if len(long) >= SHORTEST_DOCUMENT:
            asked = found.setdefault(long, {})
            if len(short.split()) >= SHORTEST_QUERY:
                asked[short.strip()] = None
    return found
