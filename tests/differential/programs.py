"""Programs from seeds: what a program is, and how one is made.

Invariant: a program is plain data, and each step names its objects. A program with any steps left out is a
program too, which makes shrinking simple.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Program", "Step", "generate"]


@dataclass(frozen=True)
class Step:
    """One call.

    Args:
        do: the name of the step, see `tests.differential.world.STEPS`.
        args: its arguments, plain values.
        scope: the scope it runs in: "" (none that ends), "cancelled" (before the call), "past" (a deadline
            that has passed), "soon" (a deadline that passes while the call waits).
        joined: the next step starts in the same tick.
    """

    do: str
    args: list[Any] = field(default_factory=list)
    scope: str = ""
    joined: bool = False

    def __str__(self) -> str:
        words = [self.do, *map(repr, self.args)]
        if self.scope:
            words.append(f"(scope {self.scope})")
        if self.joined:
            words.append("(joined)")
        return " ".join(words)


@dataclass(frozen=True)
class Program:
    """Steps, and the circumstances they run in."""

    seed: int
    steps: list[Step]
    ring: dict[str, Any] = field(default_factory=dict)
    backwards: bool = False
    """Whether Trio runs the tasks of a batch in the reverse of the order in which they were made."""
    forgets: bool = False
    """Whether what is open at the end is dropped, not closed."""
    draw: int = 0
    """Not 0: what the order of each batch is drawn from."""

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, data: dict[str, Any]) -> Program:
        return cls(**{**data, "steps": [Step(**step) for step in data["steps"]]})

    def __str__(self) -> str:
        lines = [f"seed {self.seed}  ring {self.ring}  backwards {self.backwards}  forgets {self.forgets}"]
        lines += [f"  {number:2} {step}" for number, step in enumerate(self.steps)]
        return "\n".join(lines)


SIZES = (0, 1, 7, 100, 100, 1000, 3000)
RECEIVE_SIZES = (1, 5, 100, 1000, 65536, 65536, 65536)
FLAGS = ("", "", "", "", "peek", "dontwait", "waitall", "trunc", "oob", "errqueue")
SEND_FLAGS = ("", "", "", "", "dontwait", "nosignal", "more", "oob", "eor")
HOWS = (0, 1, 2)
SOCKET_OPTIONS = (
    "linger0",
    "small-buffers",
    "recverr",
    "timestamps",
    "nodelay",
    "reuse",
    "rcvlowat",
    "keepalive",
    "passcred",
    "oobinline",
)
PAIRS = ("tcp", "unix", "seqpacket", "dgram", "udp", "tcp-plain", "unix-plain", "tcp6")
WRONG = ("none", "text", "negative", "huge", "float", "list", "nothing", "object")
PLACES = ("own", "other", "closed-port", "wrong-family", "missing-path", "text", "none", "short", "big-port")
RAW = ("regular", "folder", "null", "zero", "pipe-read", "pipe-write", "eventfd", "closed", "socket", "epoll")
BEHIND = ("os.close", "inner", "stdlib")


class Maker:
    """Makes the steps of one program; keeps a rough idea of what is there."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.steps: list[Step] = []
        self.kinds: dict[str, str] = {}
        self.waiting: list[int] = []
        self.numbers = 0

    def name(self, kind: str) -> str:
        self.numbers += 1
        name = f"{kind[0]}{self.numbers}"
        self.kinds[name] = kind
        return name

    def add(self, do: str, *args: Any, scope: str = "", joined: bool = False) -> int:
        self.steps.append(Step(do, list(args), scope, joined))
        return len(self.steps) - 1

    def scope(self) -> str:
        return self.chance.choices(("", "cancelled", "past", "soon"), (16, 1, 1, 1))[0]

    def joined(self) -> bool:
        return self.chance.random() < 0.12

    def calls(self, do: str, *args: Any) -> None:
        """A call that may wait."""
        # An urgent byte wakes stock Trio's waiter for nothing: another task of that tick may take its place.
        joined = self.joined() and "oob" not in args
        self.waiting.append(self.add(do, *args, scope=self.scope(), joined=joined))

    def of(self, *kinds: str) -> str | None:
        names = [name for name, kind in self.kinds.items() if kind in kinds]
        return self.chance.choice(names) if names else None

    # ---- what a program starts with --------------------------------------------------------------------

    def set_up(self) -> None:
        pick = self.chance.choices(
            (self.pair, self.listener, self.lone, self.pipe, self.raw, self.file), (10, 5, 3, 3, 3, 3)
        )[0]
        pick()

    def pair(self) -> None:
        kind = self.chance.choice(PAIRS)
        plain = kind.endswith("-plain")
        base = kind.partition("-")[0]
        self.add("pair", kind, self.name(base), self.name("plain" if plain else base))

    def listener(self) -> None:
        # A connect to a Unix socket whose backlog is full returns on stock Trio, though nothing is connected.
        # That of a TCP socket is made again by the kernel, after a second: its result depends on the time.
        kind = self.chance.choice(("tcp", "unix"))
        name = self.name("listener")
        self.add("listen", kind, name, 50 if kind == "unix" else self.chance.choice((5, 5, 50)))
        if self.chance.random() < 0.3:
            self.add("as_listener", name, self.name("acceptor"))

    def lone(self) -> None:
        kind = self.chance.choice(("udp", "dgram", "tcp", "unix"))
        self.add("make", kind, self.name({"udp": "udp", "dgram": "dgram"}.get(kind, "fresh")))

    def pipe(self) -> None:
        self.add("pipe", self.name("reader"), self.name("writer"))

    def raw(self) -> None:
        self.add("raw", self.chance.choice(RAW), self.name("raw"))

    def file(self) -> None:
        mode = self.chance.choice(("r", "rb", "w", "wb", "r+b", "w+", "ab", "x", "rb0", "r+b0", "q"))
        self.add(
            "open", self.chance.choice(("file", "file", "new", "folder", "null")), mode, self.name("file")
        )

    # ---- what it does with it ---------------------------------------------------------------------------

    def step(self) -> None:
        if self.waiting and self.chance.random() < 0.12:
            self.add("cancel", self.chance.choice(self.waiting), joined=self.joined())
            return
        if not self.kinds or self.chance.random() < 0.06:
            self.set_up()
            return
        name = self.chance.choice(list(self.kinds))
        kind = self.kinds[name]
        match kind:
            case "listener":
                self.with_listener(name)
            case "acceptor":
                self.with_acceptor(name)
            case "stream":
                self.with_stream(name)
            case "plain":
                self.with_plain(name)
            case "reader" | "writer":
                self.with_pipe(name, kind)
            case "raw":
                self.with_raw(name)
            case "file":
                self.with_file(name)
            case "child":
                self.add("end_child", name)
            case _:
                self.with_socket(name, kind)

    def with_socket(self, name: str, kind: str) -> None:
        chance = self.chance
        size, room = chance.choice(SIZES), chance.choice(RECEIVE_SIZES)
        datagrams = kind in ("udp", "dgram")
        do = chance.choices(
            ("receive", "send", "state", "end", "more", "wrong", "wait", "child"),
            (30, 26, 10, 12, 10, 5, 5, 3),
        )[0]
        match do:
            case "receive":
                call = chance.choice(
                    (
                        "recv",
                        "recv",
                        "recv",
                        "recv_into",
                        "recvfrom",
                        "recvfrom_into",
                        "recvmsg",
                        "recvmsg_into",
                    )
                )
                flags = chance.choice(FLAGS)
                if flags == "trunc" and not call.endswith("_into"):
                    flags = ""  # Python returns memory that nothing was written to
                size = 0 if chance.random() < 0.04 else room
                if flags == "oob" and not size:
                    flags = ""  # so it does: of a Unix socket the kernel says that it received a byte
                self.calls(call, name, size, flags)
            case "send":
                if datagrams and chance.random() < 0.4:
                    self.calls("sendto", name, size, chance.choice(PLACES), self.of("udp", "dgram") or name)
                elif chance.random() < 0.15:
                    self.add("fill", name)
                elif chance.random() < 0.15 and not datagrams:
                    self.calls("send", name, 300_000, "")
                else:
                    self.calls(
                        chance.choice(("send", "send", "sendmsg")), name, size, chance.choice(SEND_FLAGS)
                    )
            case "state":
                match chance.randrange(6):
                    case 0 | 1:
                        self.add("option", name, chance.choice(SOCKET_OPTIONS))
                    case 2:
                        self.add("look", name)
                    case 3:
                        self.add("drain", name)
                    case 4:
                        self.calls("connect", name, chance.choice(PLACES), self.of("listener", "udp") or name)
                    case 5:
                        self.calls("bind", name, chance.choice(PLACES), self.of("udp") or name)
            case "end":
                match chance.randrange(6):
                    case 0 | 1:
                        self.add("close", name, joined=self.joined())
                    case 2 | 3:
                        self.add("shutdown", name, chance.choice(HOWS), joined=self.joined())
                    case 4:
                        self.add("behind", chance.choice(BEHIND), name)
                    case 5:
                        self.add("reset", name)
            case "more":
                match chance.randrange(5):
                    case 0 | 1:
                        self.add("dup", name, self.name(kind))
                    case 2:
                        self.add("adopt", name, self.name(kind), chance.choice(("dup", "detach")))
                    case 3:
                        self.add("as_stream", name, self.name("stream"))
                    case 4:
                        self.add("number", name, self.name("raw"), chance.random() < 0.5)
            case "wrong":
                self.calls(
                    chance.choice(("recv", "recv_into", "recvfrom", "recvmsg", "send", "sendto", "sendmsg"))
                    + "_wrong",
                    name,
                    chance.choice(WRONG),
                )
            case "wait":
                self.calls(chance.choice(("readable", "writable")), name)
            case "child":
                self.child(name)

    def child(self, name: str) -> None:
        if self.chance.random() < 0.5:
            self.add("hold_in_child", self.name("child"))
        else:
            what = self.chance.choice(("send", "recv", "shutdown", "close", "accept", "connect-accept"))
            self.add("in_child", name, what)

    def with_listener(self, name: str) -> None:
        chance = self.chance
        match chance.choices(
            ("accept", "connect", "plain", "close", "dup", "adopt", "child", "odd", "wait", "acceptor"),
            (10, 8, 8, 3, 3, 1, 3, 2, 2, 2),
        )[0]:
            case "accept":
                self.calls("accept", name, self.name("tcp"))
            case "connect":
                new = self.name("fresh")
                self.add("make", "like", new, name)
                self.calls("connect", new, "own", name)
            case "plain":
                self.add("connect_plain", name, self.name("plain"))
            case "close":
                if chance.random() < 0.3:
                    self.add("behind", chance.choice(BEHIND), name)
                else:
                    self.add("close", name, joined=self.joined())
            case "dup":
                self.add("dup", name, self.name("listener"))
            case "adopt":
                self.add("adopt", name, self.name("listener"), chance.choice(("dup", "detach")))
            case "child":
                if chance.random() < 0.4:
                    self.add("hold_in_child", self.name("child"))
                else:
                    self.add(
                        "in_child", name, chance.choice(("accept", "connect-accept", "close", "shutdown"))
                    )
            case "odd":
                match chance.randrange(4):
                    case 0:
                        self.calls("recv", name, 10, "")
                    case 1:
                        self.calls("send", name, 10, "")
                    case 2:
                        self.add("shutdown", name, chance.choice(HOWS))
                    case 3:
                        self.add("look", name)
            case "wait":
                self.calls(chance.choice(("readable", "writable")), name)
            case "acceptor":
                self.add("as_listener", name, self.name("acceptor"))

    def with_acceptor(self, name: str) -> None:
        if self.chance.random() < 0.8:
            self.calls("accept_stream", name, self.name("stream"))
        else:
            self.calls("aclose", name)

    def with_stream(self, name: str) -> None:
        chance = self.chance
        match chance.choices(("send", "big", "receive", "eof", "close", "wait"), (10, 3, 10, 2, 3, 2))[0]:
            case "send":
                self.calls("send_all", name, chance.choice(SIZES))
            case "big":
                self.calls("send_all", name, 700_000)
            case "receive":
                self.calls("receive_some", name, chance.choice((*RECEIVE_SIZES, None, 0, -1)))
            case "eof":
                self.calls("send_eof", name)
            case "close":
                self.calls("aclose", name)
            case "wait":
                self.calls("might_not_block", name)

    def with_plain(self, name: str) -> None:
        chance = self.chance
        match chance.choices(
            ("send", "drain", "fill", "close", "reset", "shutdown", "oob"), (10, 10, 3, 3, 2, 3, 1)
        )[0]:
            case "send":
                self.add("put", name, chance.choice(SIZES[1:]), joined=self.joined())
            case "drain":
                self.add("drain", name)
            case "fill":
                self.add("fill", name)
            case "close":
                self.add("close", name, joined=self.joined())
            case "reset":
                self.add("reset", name)
            case "shutdown":
                self.add("shutdown", name, chance.choice(HOWS))
            case "oob":
                self.add("put_oob", name)

    def with_pipe(self, name: str, kind: str) -> None:
        chance = self.chance
        match chance.choices(("io", "close", "behind", "wait", "fill", "other"), (14, 3, 1, 3, 3, 2))[0]:
            case "io" if kind == "reader":
                self.calls("receive_some", name, chance.choice((*RECEIVE_SIZES, None, 0, -1)))
            case "io":
                self.calls("send_all", name, chance.choice((*SIZES, 200_000)))
            case "close":
                self.calls("aclose", name)
            case "behind":
                self.add("behind", "os.close", name)
            case "wait":
                self.calls(chance.choice(("readable", "writable")), name)
            case "fill":
                self.add("drain" if kind == "reader" else "fill", name)
            case "other":
                self.calls(
                    "might_not_block" if kind == "writer" else "receive_some",
                    name,
                    *([5] * (kind == "reader")),
                )

    def with_raw(self, name: str) -> None:
        chance = self.chance
        match chance.choices(("wait", "notify", "close", "closing", "feed", "dup"), (14, 3, 3, 3, 4, 2))[0]:
            case "wait":
                self.calls(chance.choice(("readable", "readable", "writable")), name)
            case "notify":
                self.add("notify_closing", name)
            case "close":
                self.add("behind", "os.close", name)
            case "closing":
                self.add("notify_closing", name)
                self.add("behind", "os.close", name)
            case "feed":
                self.add("feed", name)
            case "dup":
                self.add("dup_number", name, self.name("raw"))

    def with_file(self, name: str) -> None:
        chance = self.chance
        size = chance.choice((0, 1, 5, 100, 9000, None, -1))
        match chance.choices(("read", "write", "move", "end", "other"), (10, 8, 6, 3, 5))[0]:
            case "read":
                call = chance.choice(
                    ("read", "read", "readline", "readlines", "read1", "readinto", "peek", "next")
                )
                if call in ("read1", "readinto", "peek"):
                    # One class of the ring serves all modes: the call says what a mode lacks, in its scope.
                    self.add("file", name, call, size)
                else:
                    self.calls("file", name, call, size)
            case "write":
                self.calls(
                    "file", name, chance.choice(("write", "write", "writelines", "flush", "truncate")), size
                )
            case "move":
                self.calls("file", name, chance.choice(("seek", "seek", "tell", "seek_end")), size)
            case "end":
                self.calls("file", name, chance.choice(("aclose", "aclose", "detach")), None)
            case "other":
                self.calls(
                    "file",
                    name,
                    chance.choice(
                        ("fileno", "closed", "readable", "writable", "seekable", "isatty", "content", "name")
                    ),
                    None,
                )


def generate(seed: int) -> Program:
    """The program of a seed; the same at each call."""
    chance = random.Random(seed)
    maker = Maker(chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        maker.set_up()
    length = chance.choice((3, 5, 8, 8, 12, 16, 24))
    while len(maker.steps) < length:
        maker.step()
    ring = {}
    if chance.random() < 0.5:
        ring = {
            "entries": chance.choice((2, 4, 8, 256)),
            "cq_entries": chance.choice((256, 4096)),
            "buffers": chance.choice((1, 2, 8, 256)),
            "deadlines": chance.choice(("auto", "link", "cancel")),
        }
    return Program(seed, maker.steps, ring, chance.random() < 0.5, chance.random() < 0.15)
