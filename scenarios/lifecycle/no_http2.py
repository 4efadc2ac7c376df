"""Who speaks HTTP/2 behind FastAPI, and what it changes: many requests at once share one connection instead of waiting for six.

uvicorn reads HTTP/1.1 by httptools or h11 and nothing else; hypercorn and granian read both on one port.  A client with prior knowledge
(RFC 9113, section 3.3) sends its preface and waits for SETTINGS.  A browser opens six connections to a host with HTTP/1.1: N tiles of T each take
N / 6 x T.  With HTTP/2 they are asked for at once: T and the work of the server.
"""

import socket
import time

import gevent
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event as Frame
from h2.events import RemoteSettingsChanged, StreamEnded
from h2.exceptions import ProtocolError
from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, ClosedLoad, Condition, Journey, Probe, Scenario, Server, Survival
from lab.words.metrics import Arm, correct, each, naive
from lab.words.predictions import in_duet, under

on_granian = Arm("on_granian")

TILES = 60
BROWSER = 6  # connections to one host with HTTP/1.1
TILE_S = 0.05  # TILE_S in all targets
TIMES = 10
LONGEST_S = 5.0
ASKED, H11, GUNICORN, PAGE, PLAIN = (
    "HTTP/2 with prior knowledge",
    "the same, uvicorn with h11",
    "the same, gunicorn",
    "60 tiles at once",
    "HTTP/1.1, side by side",
)
SERVERS = {"correct": Server(kind="hypercorn"), "on_granian": Server(kind="granian")}


class Speaker:
    """One connection that speaks HTTP/2 from its first byte (RFC 9113, section 3.3)."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=LONGEST_S)
        self.authority = f"{host}:{port}"
        self.frames = H2Connection(H2Configuration(client_side=True))
        self.frames.initiate_connection()
        self.socket.sendall(self.frames.data_to_send())

    def read(self) -> list[Frame]:
        """What came next.  Raises OSError or ProtocolError where it is not HTTP/2, or nothing."""
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("closed by the server")
        found: list[Frame] = self.frames.receive_data(data)
        self.socket.sendall(self.frames.data_to_send())
        return found

    def understood(self) -> bool:
        """Whether the server answers with its settings."""
        try:
            while True:
                if any(isinstance(frame, RemoteSettingsChanged) for frame in self.read()):
                    return True
        except (OSError, ProtocolError):
            return False

    def get_all(self, paths: list[str]) -> int:
        """Ask for all paths at once; how many were answered."""
        for path in paths:
            stream = self.frames.get_next_available_stream_id()
            headers = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", self.authority)]
            self.frames.send_headers(stream, headers, end_stream=True)
        self.socket.sendall(self.frames.data_to_send())
        ended = 0
        while ended < len(paths):
            ended += sum(isinstance(frame, StreamEnded) for frame in self.read())
        return ended


class Knowing(LabUser):
    """Opens ten connections that begin with HTTP/2."""

    def journey(self) -> None:
        self.count("refused", 0)
        self.ask_otherwise(TIMES)  # h11 hands `PRI *` to the application as a request
        for _ in range(TIMES):
            speaker = Speaker(self.address.host, self.address.port)
            self.count("refused", not speaker.understood())
            speaker.socket.close()
        self.get("/health", name="health")


class Browser(LabUser):
    """Six of them are a browser: one connection for all tiles where the server speaks HTTP/2, else a share of them each."""

    def journey(self) -> None:
        speaker = Speaker(self.address.host, self.address.port)
        speaks = speaker.understood()
        self.ask_otherwise(1)
        paths = [f"/tiles/{number}" for number in range(TILES)]
        self.get("/health", name="health")
        gevent.sleep(0.5)  # all six know by now
        began = time.monotonic()
        if not speaks:
            for path in paths[self.number % BROWSER :: BROWSER]:
                self.get(path, name="tile")
        elif self.number % BROWSER == 0:
            self.ask_otherwise(TILES)
            self.count("multiplexed", speaker.get_all(paths))
        self.observe_max("page_s", time.monotonic() - began)
        speaker.socket.close()


class Steady(LabUser):
    @task
    def read(self) -> None:
        self.get("/health", name="health")


def knowing(label: str, server: Server, variants: tuple[str, ...] = ("naive",), *, control: bool = False) -> Condition:
    """Ten connections that begin with HTTP/2."""
    return Condition(
        label,
        Journey(1),
        user="Knowing",
        server=server,
        servers=SERVERS if not variants else {},
        variants=variants,
        control=control,
        quick_pairs=1,
    )


RFC = "RFC 9113, section 3.3: the server's connection preface is a SETTINGS frame"

SCENARIO = Scenario(
    title="HTTP/2 with FastAPI: uvicorn and gunicorn do not speak it, hypercorn and granian do",
    claim=(
        "uvicorn (httptools or h11) and gunicorn refuse 10 of 10 connections that begin with HTTP/2, hypercorn and granian none; 60 tiles "
        "of 50 ms take 0.5 s over six connections, and less than half of that over one that is shared"
    ),
    parts=(6,),
    catalogue_ids=("tcp-http2-claim",),
    before_after=BeforeAfter(
        each.observed("page_s"),
        "for 60 tiles",
        PAGE,
        "A browser asks for 60 tiles of a map, each of which takes 50 ms.",
    ),
    labels={"naive": "uvicorn", "correct": "hypercorn", "on_granian": "granian"},
    symptoms=(
        "WARNING:  Invalid HTTP request received.",
        "HTTP/2 uvicorn",
        "uvicorn http2",
        "h2c",
        "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
        "Cloud Run end-to-end HTTP/2",
        "http2_prior_knowledge",
        "PRI * HTTP/2.0",
        "gRPC FastAPI",
        "hypercorn h2",
        "granian http2",
        "six connections per host",
    ),
    conditions=(
        knowing(ASKED, Server(), variants=()),
        knowing(H11, Server(loop="asyncio", http="h11")),
        knowing(GUNICORN, Server(kind="gunicorn")),
        Condition(PAGE, Journey(BROWSER), user="Browser", servers=SERVERS, quick_pairs=2),
        Condition(PLAIN, ClosedLoad(2), duration_s=3.0, user="Steady", servers=SERVERS, duet=True, control=True),
    ),
    probes=(
        Probe("/health", body={"status": "ok"}),
        Probe("/tiles/255", body={"number": 255, "color": "#0000ff"}),
    ),
    constants={"TILE_S": TILE_S},
    claims=(
        Claim(
            "refused",
            "harm",
            "uvicorn and gunicorn refuse every connection that begins with HTTP/2",
            naive.observed("refused"),
            predict=under(ASKED, H11, GUNICORN, value=float(TIMES)),
            tolerance=0.0,
            null=0.0,
            formula="10 of 10",
            source="uvicorn documentation: HTTP/2 by zttp over TLS only; httptools, h11 and gunicorn read HTTP/1.1",
            headline=ASKED,
        ),
        Claim(
            "six_at_a_time",
            "harm",
            "so a browser without a proxy asks for six tiles at a time",
            naive.observed("page_s"),
            relation="at_least",
            predict=under(PAGE, value=TILES / BROWSER * TILE_S),
            tolerance=0.02,
            null=TILE_S,
            formula="N / 6 T = 0.5 s",
            source="browsers open six connections to a host; one request at a time on each",
        ),
        Claim(
            "multiplexed",
            "mechanism",
            "over HTTP/2 all are asked for at once on one connection",
            correct.observed("multiplexed"),
            predict=under(PAGE, value=float(TILES)),
            tolerance=0.0,
            null=0.0,
            formula="60 streams",
            source="RFC 9113, section 5: streams",
        ),
        Claim(
            "understood",
            "fix",
            "hypercorn understands every one",
            correct.observed("refused"),
            predict=under(ASKED, value=0.0),
            tolerance=0.0,
            null=float(TIMES),
            formula="0 of 10",
            source=RFC,
        ),
        Claim(
            "granian_too",
            "fix",
            "granian too",
            on_granian.observed("refused"),
            predict=under(ASKED, value=0.0),
            tolerance=0.0,
            null=float(TIMES),
            formula="0 of 10",
            source=RFC,
        ),
        Claim(
            "page",
            "fix",
            "the page takes less than half of the time",
            correct.observed("page_s") / naive.observed("page_s"),
            relation="at_most",
            predict=under(PAGE, value=0.45),
            tolerance=0.1,
            null=1.0,
            formula="at most (T + N x 3 ms) / (N / 6 T) = 0.46",
            source="one round instead of ten, and the server's own work",
        ),
        Claim(
            "cpu",
            "tax",
            "hypercorn needs more CPU for each request of HTTP/1.1",
            correct.cpu_s_per_request / naive.cpu_s_per_request,
            relation="at_most",
            predict=in_duet(4.0),
            tolerance=0.1,
            null=1.0,
            formula="at most 4: h11 and a task for each request in Python, against a parser in C",
            source="TechEmpower, round 23: FastAPI with hypercorn against uvicorn",
        ),
    ),
    charts=(
        Chart(
            "counts",
            each.observed("page_s"),
            "Sixty tiles of 50 ms: {six_at_a_time:.2f} s over six connections, {page:.2f} of that over HTTP/2",
            y_label="time until the last tile",
            conditions=(PAGE,),
        ),
        Chart(
            "counts",
            each.observed("refused"),
            "Ten connections that begin with HTTP/2: uvicorn refuses {refused:.0f}, hypercorn {understood:.0f}, granian {granian_too:.0f}",
            y_label="connections refused",
            conditions=(ASKED, H11, GUNICORN),
            theory=("refused", "understood", "granian_too"),
        ),
    ),
    answer=(
        "uvicorn refuses {refused:.0f} of 10 connections that begin with HTTP/2 (predicted {refused.predicted:.0f}), hypercorn {understood:.0f}, "
        "granian {granian_too:.0f}. Sixty tiles of 50 ms take {six_at_a_time:.2f} s over six connections, and {page:.2f} of that over HTTP/2."
    ),
    disagrees_with_source="One wording of the post gives HTTP/2 to uvicorn; its standard parsers do not read it",
    survival=Survival(
        user="Steady",
        answer_within_s=2.5,
        recover_within_s=3.0,
        variants=("correct", "on_granian"),
        servers={**SERVERS, "on_granian": Server(kind="granian", options=("--respawn-failed-workers",))},
        without=("correct: worker killed",),  # hypercorn ends with it, and what started it has to start it again
    ),
)
