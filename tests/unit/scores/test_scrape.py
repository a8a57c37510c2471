"""Reading a trainer's /metrics, which may answer anything."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from frostline_operator.engine.reconcile import Sample
from frostline_operator.scores.scrape import LARGEST_ANSWER_BYTES, Exposition, Scraper, read, release, scrape
from frostline_trainer.contract import DataSpec, ModelSpec, RunSpec, TrialSpec
from frostline_trainer.reporting.metrics import MetricsServer, RunMetrics

UID = "uid-1"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def exposition(objective: float, finished: int = 0) -> str:
    labels = f'study="s",study_uid="{UID}",trial="s-0000",rung="1",run="r"'
    return (
        f"# TYPE frostline_trial_objective gauge\nfrostline_trial_objective{{{labels}}} {objective}\n"
        f"# TYPE frostline_trial_tokens counter\nfrostline_trial_tokens_total{{{labels}}} 100\n"
        f"frostline_trial_finished{{{labels}}} {finished}\n"
    )


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that treats each connection as a test says; where it is."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                answer(connection)
            except OSError:
                return  # whoever asked has given up

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def saying(text: str, head: bytes = OK) -> Callable[[socket.socket], None]:
    body = text.encode()
    return lambda c: c.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


def test_values_are_read_as_prometheus_reads_them() -> None:
    with answering(saying(exposition(2.5))) as address:
        assert scrape(address, UID) == Exposition((Sample("s-0000", 1, 100, 2.5),))
        assert scrape(address, "another") == Exposition()


def test_a_trainers_own_server_is_read_and_released() -> None:
    spec = RunSpec(
        study="s", study_uid=UID, run="r", rung=1, layers=2, tokens=100, horizon=100, checkpoint="/c",
        trials=[TrialSpec(name="s-0000")], model=ModelSpec(family="MLP", hidden=[4]),
        data=DataSpec(kind="Table", builtin="breast-cancer"),
    )  # fmt: skip
    metrics = RunMetrics(spec, 2)
    metrics.update("s-0000", objective=2.5, tokens=100, finished=True, checkpoint_tokens=40)
    server = MetricsServer(metrics, 0)
    try:
        address = f"127.0.0.1:{server.port}"
        for _ in range(3):
            shown = scrape(address, UID)
            assert shown == Exposition((Sample("s-0000", 1, 100, 2.5),), frozenset({"s-0000"}), {"s-0000": 40})
        assert not server.released.is_set()
        release(address)
        assert server.released.wait(5)
    finally:
        server.close()


@pytest.mark.parametrize("part", ["headers", "body"])
def test_who_answers_a_byte_at_a_time_is_given_up_on_in_time(part: str) -> None:
    def trickle(connection: socket.socket) -> None:
        if part == "body":
            connection.sendall(OK + b"Content-Length: 100000\r\n\r\n")
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)

    with answering(trickle) as address:
        began = time.monotonic()
        assert scrape(address, UID) is None
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("head", [OK + b"Content-Length: 1073741824\r\n\r\n", OK + b"\r\n"])
def test_of_an_endless_answer_little_is_read(head: bytes) -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(head)
        while sent < 2**30:
            sent += connection.send(b"# a comment that never ends\n" * 1000)

    with answering(pour) as address:
        scrape(address, UID)
    assert sent < 16 * LARGEST_ANSWER_BYTES, "what the sockets between hold, and no more"


def test_endless_headers_are_no_answer() -> None:
    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-More: " + b"y" * 1000 + b"\r\n")

    with answering(pour) as address:
        assert scrape(address, UID) is None


@pytest.mark.parametrize(
    "text", ["<html>a login page</html>", "", "frostline_trial_objective{trial=", exposition(1.0) * 2000]
)
def test_what_is_no_exposition_of_a_trainer_gives_no_values(text: str) -> None:
    with answering(saying(text)) as address:
        shown = scrape(address, UID)
        assert shown is None or shown == Exposition()


def test_errors_are_no_answers() -> None:
    with answering(saying(exposition(1.0), b"HTTP/1.1 500 Oh\r\n")) as address:
        assert scrape(address, UID) is None
    with answering(lambda connection: connection.sendall(b"SSH-2.0\r\n")) as address:
        assert scrape(address, UID) is None
        release(address)
    assert scrape(address, UID) is None, "nobody listens there any more"


def test_series_of_others_and_odd_labels_are_left_out() -> None:
    text = exposition(2.5) + 'other_metric{a="b"} 1\nfrostline_trial_objective{study_uid="uid-1",rung="x"} 1\n'
    assert read(text, UID) == Exposition((Sample("s-0000", 1, 100, 2.5),))


def test_trainers_that_trickle_hold_up_no_other_for_long() -> None:
    def trickle(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"H")
            time.sleep(0.2)

    shown: list[Exposition] = []
    woken: list[str] = []
    scraper = Scraper(woken.append)
    with answering(trickle) as slow, answering(saying(exposition(2.5, finished=1))) as quick:
        for number in range(8):
            scraper.watch("slow", f"r{number}", slow, ["x"], 1.0, lambda seen: None)
        scraper.watch(UID, "r", quick, ["s-0000"], 1.0, shown.append)
        scraper.start()
        until = time.monotonic() + 10
        while not woken:
            assert time.monotonic() < until
            time.sleep(0.01)
        scraper.stop()
    assert woken == [UID] and shown[0].finished == {"s-0000"}


EXPOSITION = """\
# TYPE frostline_trial_objective gauge
frostline_trial_objective{study="s",study_uid="mine",trial="a",rung="1"} 2.5
frostline_trial_objective{study="s",study_uid="other",trial="a",rung="1"} 0.1
# TYPE frostline_trial_tokens_total counter
frostline_trial_tokens_total{study="s",study_uid="mine",trial="a",rung="1"} 4096.0
frostline_trial_tokens_total{study="s",study_uid="mine",trial="b",rung="1"} 512.0
"""


def test_only_this_studys_series_are_read_and_only_with_a_value() -> None:
    assert read(EXPOSITION, "mine").samples == (Sample("a", 1, 4096, 2.5),)


def test_what_is_no_exposition_is_an_error() -> None:
    with pytest.raises(ValueError):
        read("<html>{", "mine")
