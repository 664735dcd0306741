"""A local server that behaves well, badly, and as no server should; what must lie in the cache folder after each."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lookonce.errors import DownloadError
from lookonce.zoo import Published, download

DATA = hashlib.shake_256(b"weights").digest(1000)
OTHER = hashlib.shake_256(b"other").digest(1000)
LARGE = hashlib.shake_256(b"large").digest(200_000)              # more than one chunk
NAME = "net.weights"

Request = http.server.BaseHTTPRequestHandler
Answer = Callable[[Request], None]


class Server:
    """Answers each path as a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, str | None]] = []             # path and Range of each request
        self.over = threading.Event()                            # set when the test is: answers may wait for it
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append((self.path, self.headers.get("Range")))
                with contextlib.suppress(OSError):               # the other side may hang up
                    server.answers[self.path](self)

            def log_message(self, format: str, *arguments: object) -> None:
                """Tests are silent."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def offers(self, path: str, answer: Answer) -> str:
        """Let `path` be answered so; gives its address."""
        self.answers[path] = answer
        return self.url(path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.over.set()
    server.http.shutdown()
    server.http.server_close()


# ---------------------------------------------------------------------- answers
def reply(status: int = 200, body: bytes = b"", length: int | None = -1, **headers: str) -> Answer:
    """A status, headers and a body. `length` -1 tells the body's own, None tells none."""

    def answer(request: Request) -> None:
        request.send_response(status)
        if length is not None:
            request.send_header("Content-Length", str(len(body) if length == -1 else length))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def whole(data: bytes = DATA) -> Answer:
    """A server that knows parts, as RFC 9110 has it."""

    def answer(request: Request) -> None:
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            reply(416, Content_Range=f"bytes */{len(data)}")(request)
        elif start:
            reply(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")(request)
        else:
            reply(200, data)(request)

    return answer


def broken(data: bytes, after: int) -> Answer:
    """Promises all of `data` and hangs up."""
    return reply(200, data[:after], length=len(data))


def reset(request: Request) -> None:
    """Begins to send, then resets the connection."""
    reply(200, DATA[:400], length=1000)(request)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(request.connection.detach())


def endless(request: Request) -> None:
    reply(200, length=None)(request)
    while True:
        request.wfile.write(bytes(1 << 14))


def redirect(target: str) -> Answer:
    return reply(302, Location=target)


# ---------------------------------------------------------------------- what is wanted, and what is there
def published(*urls: str, data: bytes | None = DATA, size: int | None = 1000) -> Published:
    sha256 = hashlib.sha256(data).hexdigest() if data is not None else None
    return Published(NAME, "net", urls, "none", bytes=size, sha256=sha256)


def pull(file: Published, lengths: tuple[int, ...] = ()) -> bytes:
    return download.pull(file, lengths=lengths, insecure_test=True).read_bytes()


def part(folder: Path) -> Path:
    return folder / f"{NAME}.part"


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------- all goes well
def test_a_file_lies_in_the_cache_folder_under_its_name_and_is_fetched_once(server: Server, own_cache: Path) -> None:
    file = published(server.offers("/net", whole()))
    assert download.pull(file, insecure_test=True) == own_cache / NAME
    assert (own_cache / NAME).read_bytes() == DATA
    assert there(own_cache) == [NAME]
    assert pull(file) == DATA
    assert server.seen == [("/net", None)]


def test_a_redirect_is_followed_with_the_part_that_is_asked_for(server: Server, own_cache: Path) -> None:
    part(own_cache).write_bytes(DATA[:300])
    assert pull(published(server.offers("/old", redirect(server.offers("/new", whole()))))) == DATA
    assert server.seen == [("/old", "bytes=300-"), ("/new", "bytes=300-")]


def test_progress_grows_to_the_whole(server: Server) -> None:
    told: list[tuple[int, int | None]] = []
    file = published(server.offers("/net", whole(LARGE)), data=LARGE, size=len(LARGE))
    download.pull(file, lambda done, total: told.append((done, total)), insecure_test=True)
    assert {total for _, total in told} == {len(LARGE)}
    assert all(before < after for (before, _), (after, _) in pairwise(told))
    assert len(told) > 1
    assert told[-1][0] == len(LARGE)


# ---------------------------------------------------------------------- broken off
def test_a_broken_download_is_kept_and_only_its_rest_is_fetched(server: Server, own_cache: Path) -> None:
    file = published(server.offers("/net", broken(DATA, 400)))
    with pytest.raises(DownloadError, match="400 of 1,000 bytes"):
        pull(file)
    assert part(own_cache).read_bytes() == DATA[:400]
    server.offers("/net", whole())
    assert pull(file) == DATA
    assert there(own_cache) == [NAME]
    assert server.seen == [("/net", None), ("/net", "bytes=400-")]


def test_a_reset_connection_is_an_error_and_the_next_try_ends_well(server: Server, own_cache: Path) -> None:
    file = published(server.offers("/net", reset))
    with pytest.raises(DownloadError):
        pull(file)
    assert not (own_cache / NAME).exists()
    server.offers("/net", whole())
    assert pull(file) == DATA


def test_an_interrupted_download_is_resumed(server: Server) -> None:
    file = published(server.offers("/net", whole(LARGE)), data=LARGE, size=len(LARGE))

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.pull(file, interrupt, insecure_test=True)
    assert pull(file) == LARGE
    assert server.seen == [("/net", None), ("/net", f"bytes={download.CHUNK}-")]


PARTS: dict[str, tuple[bytes, Answer, list[tuple[str, str | None]]]] = {
    "a server that knows no parts sends it all": (DATA[:400], reply(200, DATA), [("/net", "bytes=400-")]),
    "a part that is whole is only checked": (DATA, whole(), []),
    "a part that is too long is thrown away": (DATA + b"more", whole(), [("/net", None)]),
}


@pytest.mark.parametrize(("before", "answer", "asked"), PARTS.values(), ids=PARTS.keys())
def test_what_a_part_is_good_for(
    before: bytes, answer: Answer, asked: list[tuple[str, str | None]], server: Server, own_cache: Path
) -> None:
    part(own_cache).write_bytes(before)
    assert pull(published(server.offers("/net", answer))) == DATA
    assert server.seen == asked
    assert there(own_cache) == [NAME]


def test_a_part_of_the_shorter_of_two_lengths_is_not_taken_for_the_whole(server: Server, own_cache: Path) -> None:
    """Darknet's older header is 4 bytes shorter, so a cfg allows two lengths."""
    part(own_cache).write_bytes(DATA[:996])
    assert pull(published(server.offers("/net", whole()), data=None, size=None), lengths=(996, 1000)) == DATA


def test_a_part_that_the_server_has_no_rest_of_is_thrown_away(server: Server, own_cache: Path) -> None:
    part(own_cache).write_bytes(OTHER[:900])
    file = published(server.offers("/net", reply(416, Content_Range="bytes */500")))
    with pytest.raises(DownloadError, match="416"):
        pull(file)
    assert there(own_cache) == []
    server.offers("/net", whole())
    assert pull(file) == DATA


def test_another_part_than_was_asked_for_is_refused(server: Server, own_cache: Path) -> None:
    part(own_cache).write_bytes(DATA[:400])
    lie = reply(206, DATA[:600], Content_Range="bytes 0-599/1000")
    with pytest.raises(DownloadError, match="another part"):
        pull(published(server.offers("/net", lie)))
    assert part(own_cache).read_bytes() == DATA[:400]


def test_a_rest_of_another_file_is_noticed_and_nothing_is_left(server: Server, own_cache: Path) -> None:
    part(own_cache).write_bytes(OTHER[:400])
    with pytest.raises(DownloadError, match="SHA-256"):
        pull(published(server.offers("/net", whole())))
    assert there(own_cache) == []


# ---------------------------------------------------------------------- bad answers
BAD: dict[str, tuple[Answer, str]] = {
    "a page in place of the file": (reply(200, DATA, Content_Type="text/html; charset=utf-8"), "HTML page"),
    "a page of the right length": (reply(200, DATA, Content_Type="Application/XHTML+XML"), "HTML page"),
    "not found": (reply(404, b"not here"), "404"),
    "too short": (reply(200, DATA[:900]), "offers 900 bytes, wanted the 1,000"),
    "too long": (reply(200, DATA + DATA), "offers 2,000 bytes, wanted the 1,000"),
    "too short, length not told": (reply(200, DATA[:900], length=None), "900 bytes, wanted the 1,000"),
    "endless": (endless, "more than the 1,000 bytes"),
    "another file": (reply(200, OTHER), "SHA-256"),
    "packed": (reply(200, DATA, Content_Encoding="gzip"), "gzip"),
    "a part though all was asked for": (reply(206, DATA[100:], Content_Range="bytes 100-999/1000"), "another part"),
    "a part without its place": (reply(206, DATA), "another part"),
    "to a file of this computer": (redirect("file:///etc/hostname"), "file:///etc/hostname"),
    "to ftp": (redirect("ftp://127.0.0.1/net"), "ftp://127.0.0.1/net"),
    "to data": (redirect("data:,net"), "data:,net"),
    "nowhere": (reply(302), "302"),
    "to itself": (redirect("/net"), "302"),
    "a length that is none": (reply(200, DATA, length=None, Content_Length="²"), ""),
}


@pytest.mark.parametrize(("answer", "says"), BAD.values(), ids=BAD.keys())
def test_a_bad_answer_is_told_and_leaves_nothing(answer: Answer, says: str, server: Server, own_cache: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        pull(published(server.offers("/net", answer)))
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert NAME in message or server.url("/net") in message
    assert there(own_cache) == []


def test_an_unknown_length_has_a_limit_too(server: Server, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", 100_000)
    with pytest.raises(DownloadError, match="more than the 100,000 bytes"):
        pull(published(server.offers("/net", endless), size=None))
    assert there(own_cache) == []


def test_a_silent_server_is_given_up(server: Server, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(request: Request) -> None:
        reply(200, DATA[:10], length=1000)(request)
        server.over.wait(10)

    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with pytest.raises(DownloadError, match="timed out"):
        pull(published(server.offers("/net", silent)))
    assert not (own_cache / NAME).exists()


def test_where_nothing_listens_the_message_asks_whether_the_computer_is_offline(own_cache: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))                            # bound but not listening: refused at once
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/net"
        with pytest.raises(DownloadError, match=f"{url}.*offline"):
            pull(published(url))
    assert there(own_cache) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_not_taken_for_a_lost_connection(server: Server, own_cache: Path) -> None:
    part(own_cache).symlink_to("/dev/full")
    with pytest.raises((DownloadError, OSError), match="No space left") as caught:
        pull(published(server.offers("/net", whole())))
    assert "offline" not in str(caught.value)


# ---------------------------------------------------------------------- only https
def test_plain_http_is_not_spoken(server: Server, own_cache: Path) -> None:
    with pytest.raises(DownloadError, match="http"):
        download.pull(published(server.offers("/net", whole())))
    assert server.seen == []
    assert there(own_cache) == []


def test_a_redirect_to_plain_http_is_refused(server: Server) -> None:
    """The first address is fetched without https here, as a test must; what it leads to is judged as always."""
    opener = download._opener(insecure_test=False)
    opener.add_handler(urllib.request.HTTPHandler())
    first = server.offers("/first", redirect(server.offers("/second", whole())))
    with pytest.raises(DownloadError, match="not https"):
        opener.open(first, timeout=5)
    assert [path for path, _ in server.seen] == ["/first"]


@pytest.mark.parametrize("url", [Path(__file__).as_uri(), "ftp://127.0.0.1/net", "data:,net"])
def test_no_other_scheme_is_opened(url: str, own_cache: Path) -> None:
    with pytest.raises(DownloadError, match=url.partition(":")[0]):
        pull(published(url))
    assert there(own_cache) == []


# ---------------------------------------------------------------------- several addresses
@pytest.mark.parametrize("first", [reply(404), reply(200, b"<p>", Content_Type="text/html"), reset, redirect("/a")])
def test_the_second_address_is_tried_when_the_first_fails(first: Answer, server: Server, own_cache: Path) -> None:
    assert pull(published(server.offers("/a", first), server.offers("/b", whole()))) == DATA
    assert there(own_cache) == [NAME]


def test_the_second_address_goes_on_where_the_first_broke_off(server: Server) -> None:
    assert pull(published(server.offers("/a", broken(DATA, 400)), server.offers("/b", whole()))) == DATA
    assert server.seen == [("/a", None), ("/b", "bytes=400-")]


def test_when_all_addresses_fail_each_is_named(server: Server) -> None:
    with pytest.raises(DownloadError) as caught:
        pull(published(server.offers("/a", reply(404)), server.offers("/b", reply(503))))
    assert f"{server.url('/a')}: answered 404" in str(caught.value)
    assert f"{server.url('/b')}: answered 503" in str(caught.value)


# ---------------------------------------------------------------------- what is known of a file
@pytest.mark.parametrize(("damaged", "says"), [(OTHER, "SHA-256"), (DATA[:500], "500 bytes, wanted the 1,000")])
def test_a_damaged_file_that_is_there_is_removed(damaged: bytes, says: str, server: Server, own_cache: Path) -> None:
    (own_cache / NAME).write_bytes(damaged)
    file = published(server.offers("/net", whole()))
    with pytest.raises(DownloadError, match=f"{NAME}.*{says}"):
        pull(file)
    assert there(own_cache) == []
    assert pull(file) == DATA


@pytest.mark.parametrize("size", [996, 1000])
def test_where_the_registry_knows_no_length_those_of_the_cfg_are_held_to(size: int, server: Server) -> None:
    file = published(server.offers("/net", whole(DATA[:size])), data=None, size=None)
    assert pull(file, lengths=(996, 1000)) == DATA[:size]


def test_a_length_that_the_cfg_does_not_allow_is_refused(server: Server) -> None:
    file = published(server.offers("/net", whole(DATA[:998])), data=None, size=None)
    with pytest.raises(DownloadError, match="998 bytes, wanted the 996 or 1,000"):
        pull(file, lengths=(996, 1000))


@pytest.mark.parametrize("before", [None, b"{}", b'{"other": "0"}', b"no JSON", b"[1, 2]"])
def test_an_unknown_sha256_is_recorded_and_held_to(before: bytes | None, server: Server, own_cache: Path) -> None:
    """What is recorded of other files stays; a damaged record is no obstacle."""
    records = own_cache / "sha256.json"
    if before is not None:
        records.write_bytes(before)
    file = published(server.offers("/net", whole()), data=None)
    assert pull(file) == DATA
    kept = {"other": "0"} if before and b"other" in before else {}
    assert json.loads(records.read_bytes()) == {**kept, NAME: hashlib.sha256(DATA).hexdigest()}
    (own_cache / NAME).unlink()
    server.offers("/net", whole(OTHER))
    with pytest.raises(DownloadError, match="SHA-256"):
        pull(file)
    assert there(own_cache) == ["sha256.json"]
