"""Drives a headless Chromium by its debugging protocol over a pipe, without any library."""

import base64
import fcntl
import json
import os
import select
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

EXECUTABLE: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WHY_NOT: Final = "there is no chromium: apt install chromium"
_FLAGS: Final = (
    "--headless --disable-gpu --disable-quic --no-first-run --hide-scrollbars --no-sandbox"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --disable-dev-shm-usage --remote-debugging-pipe"
)
_SECONDS: Final = 60.0


class Browser:
    """One tab; `said` is what the console and the log said, `requested` every address asked for."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._rest = b""
        self._count = 0
        self._session: str | None = None
        self.said: list[str] = []
        self.requested: list[str] = []
        self._loaded = 0
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for reply in self._messages():
            if reply.get("id") == self._count:
                assert "error" not in reply, reply
                return reply["result"]
        raise AssertionError("unreachable")

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + _SECONDS
        while True:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([self._back], [], [], deadline - time.monotonic())
                assert ready, "chromium does not answer"
                part = os.read(self._back, 2**16)
                assert part, "chromium is gone"
                self._rest += part
            text, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(text)
            self._note(message)
            yield message

    def _note(self, message: dict[str, Any]) -> None:
        event, detail = message.get("method", ""), message.get("params", {})
        if event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(detail))
        elif event == "Network.requestWillBeSent":
            self.requested.append(detail["request"]["url"])
        elif event == "Page.loadEventFired":
            self._loaded += 1

    def open(self, page: Path) -> None:
        """Load a file and wait until it is there."""
        self.said.clear()
        self.requested.clear()
        before = self._loaded
        self.ask("Page.navigate", url=page.as_uri())
        for _ in self._messages():
            if self._loaded > before:
                return

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screen(self, width: int, *, dark: bool = False, media: str = "") -> None:
        """Set the width of the window in CSS pixels, and how the user likes colours."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def picture(self) -> bytes:
        """Return the whole page as PNG."""
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def printed(self) -> bytes:
        """Return the page as it is printed on A4, as PDF."""
        found = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(found["data"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it."""
    assert EXECUTABLE is not None
    pipes = [*os.pipe(), *os.pipe()]
    # Chromium reads from 3 and writes to 4; none of ours may have these numbers.
    read, to, back, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipes)
    for end in pipes:
        os.close(end)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - opened for both
            child = os.posix_spawn(
                EXECUTABLE,
                [EXECUTABLE, *_FLAGS.split(), f"--user-data-dir={profile}"],
                os.environ,
                file_actions=[
                    *((os.POSIX_SPAWN_DUP2, nothing.fileno(), stream) for stream in (0, 1, 2)),
                    (os.POSIX_SPAWN_DUP2, read, 3),
                    (os.POSIX_SPAWN_DUP2, write, 4),
                ],
            )
        os.close(read)
        os.close(write)
        try:
            browser = Browser(to, back)
            yield browser
            browser._session = None
            browser.ask("Browser.close")
        finally:
            os.close(to)
            os.close(back)
            # It ends when its pipe is closed.
            os.waitpid(child, 0)
