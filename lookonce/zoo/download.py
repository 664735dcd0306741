"""Fetching published weights: the only code here that opens a connection, and only when it is called.

A download is resumed where it broke off, checked by length and SHA-256, and appears under its name only when it is
whole and right. The SHA-256 of a file that nobody here knows yet is recorded at the first download, and held to after.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lookonce import files
from lookonce.errors import DownloadError
from lookonce.zoo.registry import Published, cache_folder

TIMEOUT = 30.0                          # seconds without a byte
CHUNK = 1 << 16
LARGEST = 4 << 30                       # bytes of a file whose length is not known
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
AGENT = "lookonce"                      # some hosts refuse Python's own name

Progress = Callable[[int, int | None], None]            # bytes so far, bytes in all if known


def pull(
    file: Published,
    progress: Progress = lambda done, total: None,
    *,
    lengths: Sequence[int] = (),
    insecure_test: bool = False,
) -> Path:
    """The path of a published file in the cache folder, fetched if it is not there yet.

    `lengths` are those that the file may have, in bytes, where the registry does not know it: what its network's cfg
    asks for. The addresses are tried in turn. Only https is spoken, also after a redirect. Raises DownloadError if
    none gives the whole file, or if what it gives is not the file that is known. (`insecure_test` lets the tests use
    a local server without https.)
    """
    target = cache_folder() / file.name
    known = (file.bytes,) if file.bytes is not None else tuple(lengths)
    right = _Right(file.name, known, file.sha256 or _recorded(file.name))
    if target.is_file():
        right.check(target)
        return target
    partial = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    complaints = []
    for url in file.urls:
        try:
            _fetch(url, partial, right, progress, insecure_test)
        except DownloadError as problem:
            complaints.append(str(problem))
            continue
        right.check(partial)
        if right.sha256 is None:
            _record(file.name, _sha256(partial))
        partial.replace(target)
        return target
    raise DownloadError("; ".join(complaints))


class _Right(NamedTuple):
    """What is known of the file that is wanted."""

    name: str
    lengths: tuple[int, ...]
    sha256: str | None

    @property
    def longest(self) -> int:
        return max(self.lengths, default=LARGEST)

    def check_length(self, length: int, who: str) -> None:
        """Raise DownloadError if the whole file would have a length that it cannot have."""
        if self.lengths and length not in self.lengths:
            wanted = " or ".join(f"{each:,}" for each in self.lengths)
            raise DownloadError(f"{who} {length:,} bytes, wanted the {wanted} of {self.name}")

    def check(self, path: Path) -> None:
        """Raise DownloadError, and remove `path`, unless it has the length and SHA-256 that it should have."""
        try:
            self.check_length(path.stat().st_size, f"{self.name}: has")
            self._check_sha256(path)
        except DownloadError:
            path.unlink()
            raise

    def _check_sha256(self, path: Path) -> None:
        found = _sha256(path) if self.sha256 is not None else None
        if found != self.sha256:
            raise DownloadError(
                f"{self.name}: its SHA-256 is {str(found)[:16]}..., wanted {str(self.sha256)[:16]}...: it is not the "
                "file that is known, and was removed"
            )


def _fetch(url: str, partial: Path, right: _Right, progress: Progress, insecure_test: bool) -> None:
    """Bring `partial` to its full length from `url`, going on where it ends. Raises DownloadError."""
    done = partial.stat().st_size if partial.exists() else 0
    if right.lengths and done == right.longest:
        return                                                  # only its check was missing
    if done > right.longest:
        partial.unlink()
        done = 0
    request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})  # noqa: S310
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with _opener(insecure_test).open(request, timeout=TIMEOUT) as answer:
            done = done if answer.status == 206 else 0
            _check_kind(url, answer, done)
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length is not None and length.isdigit() else None
            if total is not None:
                right.check_length(total, f"{url}: offers")
            with partial.open("ab" if done else "wb") as out:
                _copy(url, answer, out, done, total, right, progress)
    except urllib.error.HTTPError as problem:
        if problem.code == 416:
            if done in right.lengths and problem.headers.get("Content-Range") == f"bytes */{done}":
                return                                          # it was the whole of it
            partial.unlink(missing_ok=True)                     # it was no beginning of this file
        said = str(problem.reason).partition("\n")[0]          # urllib's own may have several lines
        raise DownloadError(f"{url}: answered {problem.code} {said}") from None
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as problem:
        if getattr(problem, "errno", None) in NO_ROOM or getattr(problem, "filename", None):
            raise DownloadError(f"{partial}: cannot be written: {problem}") from None
        reason = getattr(problem, "reason", None) or problem
        raise DownloadError(f"{url}: cannot be reached ({reason}); is this computer offline?") from None


def _copy(url: str, answer: Any, out: Any, done: int, total: int | None, right: _Right, progress: Progress) -> None:
    """Copy the answer's body, never past the length that is right. Raises DownloadError if it ends early."""
    limit = total if total is not None else right.longest
    while chunk := answer.read(CHUNK):
        done += len(chunk)
        if done > limit:
            out.close()
            Path(out.name).unlink()
            raise DownloadError(f"{url}: sends more than the {limit:,} bytes of {right.name}; nothing was kept")
        out.write(chunk)
        progress(done, total)
    out.flush()
    os.fsync(out.fileno())
    if total is not None and done < total:
        raise DownloadError(f"{url}: broke off at {done:,} of {total:,} bytes; what came is kept, the next try goes on")


def _check_kind(url: str, answer: Any, done: int) -> None:
    """Raise DownloadError for a page in place of a file, a file that is packed, or another part than was asked for."""
    if answer.status == 206 and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {done}-"):
        raise DownloadError(f"{url}: answered with another part of the file than was asked for")
    kind = str(answer.headers.get("Content-Type", "")).split(";")[0].strip().lower()
    coding = str(answer.headers.get("Content-Encoding", "identity")).lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise DownloadError(f"{url}: answered with an HTML page in place of the file")
    if coding not in ("", "identity"):
        raise DownloadError(f"{url}: answered in the coding {coding}, wanted the file as it is")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _records() -> Path:
    return cache_folder() / "sha256.json"


def _recorded(name: str) -> str | None:
    """The SHA-256 that an earlier download recorded."""
    try:
        found = json.loads(_records().read_bytes()).get(name)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _record(name: str, sha256: str) -> None:
    try:
        known = json.loads(_records().read_bytes())
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    with files.write_atomically(_records()) as file:
        file.write(json.dumps({**known, name: sha256}, indent=1).encode())


def _opener(insecure_test: bool) -> urllib.request.OpenerDirector:
    """Speaks https and follows redirects to https; nothing else, no file: and no ftp:."""
    opener = urllib.request.OpenerDirector()
    handlers = [
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(insecure_test),
        urllib.request.HTTPSHandler(),
    ]
    if insecure_test:
        handlers.append(urllib.request.HTTPHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, insecure_test: bool) -> None:
        self._schemes = ("https", "http") if insecure_test else ("https",)

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in self._schemes:
            raise DownloadError(f"{req.full_url}: leads to {newurl[:200]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
