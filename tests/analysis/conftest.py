"""A headless Chromium, driven through the pipe of its DevTools protocol: nothing but the browser is needed."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from itertools import count

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--window-size=1200,900",
    "--remote-debugging-pipe",
)
# The browser reads commands from file descriptor 3 and answers on 4.
LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
SECONDS = 300


class Page:
    """A page in a browser, with everything that it complained about and asked for."""

    def __init__(self, executable, folder):
        reader, self._writer = os.pipe()
        self._reader, writer = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reader, writer)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *map(str, theirs), executable, *FLAGS, f"--user-data-dir={folder}"],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(folder)},
        )
        for end in (reader, writer, *theirs):
            os.close(end)
        self._numbers, self._received, self._session, self.events = count(1), b"", None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while (answer := self._receive(deadline)).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self, deadline):
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            some = os.read(self._reader, 1 << 16)
            assert some, f"the browser ended with {self._process.wait()}"
            self._received += some
        line, self._received = self._received.split(b"\0", 1)
        return json.loads(line)

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression):
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints()}"
            time.sleep(0.05)

    def screenshot(self, **clip):
        options = {"clip": {"scale": 1, **clip}} if clip else {}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, **options)
        return base64.b64decode(answer["data"])

    def complaints(self):
        """Return exceptions, and what was written to the console as an error or warning."""
        found = []
        for event in self.events:
            about = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(about["exceptionDetails"])
            elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] in {"error", "warning"}:
                found.append(about["entry"])
            elif event.get("method") == "Runtime.consoleAPICalled" and about["type"] in {"error", "warning", "assert"}:
                found.append(about)
        return found

    def requests(self):
        """Return the addresses that the page asked for."""
        asked = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [about["request"]["url"] for about in asked]

    def close(self):
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(timeout=20)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._writer)
        os.close(self._reader)


@pytest.fixture(scope="session")
def chromium():
    """Return the browser's program; without one the test is skipped, but in continuous integration it fails."""
    named = os.environ.get("FUSE_FLOWS_TEST_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        message = "no Chromium here; install it, or name it in FUSE_FLOWS_TEST_CHROMIUM"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
def page(chromium, tmp_path_factory):
    """Return an empty page of a browser of its own."""
    made = Page(chromium, tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()
