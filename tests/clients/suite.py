"""Runs every client over every transport and protocol era it has, and the conformance suite.

Called by `run`, which installs them. A line of the report is one client over one transport, against
a server and a data folder of its own.
"""

import argparse
import concurrent.futures
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Longer than any line takes, in seconds.
PATIENCE = 180
# Lines of a log that are shown where its line failed.
SHOWN = 60
# How a server is reached, and whether it lets in only whom it knows.
DOORS = ["stdio", "http", "http with a token", "sse with a token"]
TOKEN = secrets.token_hex(32)
LISTENING = re.compile(r"listening on (http://\S+)/(?:mcp|sse)")


@dataclass
class Line:
    """One client over one transport."""

    name: str
    transport: str
    has_token: bool  # whether the server wants a bearer token
    needs: list  # files that an installation brings
    command: list  # gets the binary for stdio, else a URL, as its last argument
    check: object = lambda printed: ""  # what is wrong with what it printed


def lines(cache):
    """What there is to run."""
    one, two = (cache / f"python-{number}/bin/python" for number in (1, 2))
    modules = cache / "javascript/node_modules"
    node = newest_node(modules)
    # HTTP+SSE belongs to the handshake's era, but nothing in it keeps the newer one out.
    for era in ("modern", "legacy"):
        for door in DOORS:
            transport, has_token = door.split()[0], door.endswith("token")

            def line(name, needs, command):
                command = [*command, transport, era]
                return Line(f"{name} over {door}, {era}", transport, has_token, needs, command)

            def python(name, interpreter):
                return line(name, [interpreter], [interpreter, "-B", HERE / "python/doors.py"])

            def javascript(name, library, package):
                command = [node, cache / "javascript/doors.mjs", library]
                return line(name, [node, modules / package], command)

            yield python("PyPI mcp 2.x", two)
            yield javascript("npm client 2.x", "client2", "@modelcontextprotocol/client")
            yield javascript("npm inspector 2.x", "inspector", "@modelcontextprotocol/inspector")
            if era == "legacy":
                yield python("PyPI mcp 1.x", one)
                yield javascript("npm sdk 1.x", "sdk1", "@modelcontextprotocol/sdk")
    for version in ("2026-07-28", "2025-11-25"):
        yield conformance(node, modules / "@modelcontextprotocol/conformance", version)


def newest_node(modules):
    """The node of the lock file, or the machine's own where that has none for it."""
    installed = [*modules.glob("node-*/bin/node")]
    return installed[0] if installed else Path(shutil.which("node") or modules / "node")


def conformance(node, package, version):
    """The official suite; what it cannot find in a server of seven tools is in a baseline."""
    baseline = HERE / f"conformance/expected-failures-{version}.yml"
    command = [node, package / "dist/index.js", "server", "--suite", "all"]
    command += ["--spec-version", version, "--expected-failures", baseline, "--url"]

    def check(printed):
        # The suite itself turns down what fails unlisted and what is listed and passes. It lets
        # pass what is listed and was not seen, and asks for no reasons.
        listed = dict(re.findall(r"^ +- (\S+)(?: # (.+))?$", baseline.read_text(), re.M))
        seen = {*re.findall(r"^  ~ (\S+)$", printed, re.M)}
        wrong = [f"{entry} was not seen to fail" for entry in listed if entry not in seen]
        wrong += [f"{entry} is listed without a reason" for entry, why in listed.items() if not why]
        return "\n".join(wrong)

    return Line(f"conformance, {version}", "http", False, [node, package], command, check)


@contextlib.contextmanager
def server(binary, line, home, log):
    """What a client is given: the binary, which it starts itself, or the URL of a server."""
    if line.transport == "stdio":
        yield binary
        return
    said = Path(home, "said")
    with said.open("w") as stderr:
        command = [binary, "mcp", "start", "--transport", line.transport, "--port", "0"]
        if line.has_token:
            tokens = Path(home, "tokens")
            tokens.touch(0o600)
            tokens.write_text(f"agent work {TOKEN}\n")
            command += ["--token-file", tokens]
        process = subprocess.Popen(
            command, env=environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=stderr
        )
    try:
        while not (found := LISTENING.search(said.read_text())):
            if process.poll() is not None:
                raise Failed(f"the server ended with {process.returncode}")
            time.sleep(0.01)
        yield found[1] + ("/sse" if line.transport == "sse" else "/mcp")
        process.terminate()
        if process.wait(PATIENCE) != 0:
            raise Failed(f"the server ended with {process.returncode}")
        if not all(LISTENING.match(line) for line in said.read_text().splitlines()):
            raise Failed("the server said more than where it listens")
    finally:
        process.kill()
        process.wait()
        log.write(f"\nThe server's stderr:\n{said.read_text()}")


class Failed(Exception):
    """Why a line failed, beyond what its log says."""


def environment(home):
    """Nothing of the machine's own that a client may find, but how to reach programs."""
    kept = {name: os.environ[name] for name in ("PATH", "NODE_COMPILE_CACHE")}
    return kept | {"HOME": home, "IPFS_ACCELERATE_HOME": f"{home}/data"}


def run(line, binary, log_path):
    """Runs one line; how long it took."""
    started = time.monotonic()
    # Not in the build's folder: the sockets in it need short names.
    with tempfile.TemporaryDirectory() as home, open(log_path, "w+") as log:
        with server(binary, line, home, log) as target:
            client = subprocess.Popen(
                [*line.command, target],
                env=environment(home) | ({"TOKEN": TOKEN} if line.has_token else {}),
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                ended = client.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise Failed(f"it took longer than {PATIENCE} s") from None
            finally:
                # And with it the servers and commands that it started.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(client.pid, signal.SIGKILL)
                client.wait()
            if ended != 0:
                raise Failed(f"it ended with {ended}")
        if wrong := line.check(log_path.read_text()):
            raise Failed(wrong)
    return time.monotonic() - started


def report(line, binary, logs):
    """Runs one line and says how it went; what it was: done, failed or not run."""
    if missing := [need for need in line.needs if not need.exists()]:
        return "not run", f"✗ {line.name}: NOT RUN, {missing[0]} is missing"
    log_path = logs / f"{re.sub(r'[^a-z0-9.]+', '-', line.name.lower())}.log"
    try:
        return "done", f"✓ {line.name}, {run(line, binary, log_path):.1f} s"
    except Failed as error:
        shown = log_path.read_text().splitlines()[-SHOWN:]
        rest = [f"    {text}" for text in [*shown, str(error), f"The whole log is {log_path}"]]
        return "failed", "\n".join([f"✗ {line.name}: FAILED", *rest])


def main():
    arguments = argparse.ArgumentParser(prog="tests/clients/run", description=__doc__)
    arguments.add_argument("binary", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("cache", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--allow-not-run", action="store_true",
                           help="what could not be installed is named, but is no failure")
    arguments.add_argument("pattern", nargs="?", default="",
                           help="run only the lines that match this regular expression")
    given = arguments.parse_intermixed_args()
    # The Inspector is started for each of its steps.
    os.environ["NODE_COMPILE_CACHE"] = str(given.cache / "compiled")
    logs = given.cache / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    # Modules of JavaScript are found from where the script is.
    if (given.cache / "javascript").exists():
        for script in (HERE / "javascript").glob("*.mjs"):
            shutil.copy(script, given.cache / "javascript")
    chosen = [line for line in lines(given.cache) if re.search(given.pattern, line.name)]
    if not chosen:
        sys.exit(f"no line matches {given.pattern!r}")
    started, ended = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for how, text in pool.map(lambda line: report(line, given.binary, logs), chosen):
            print(text, flush=True)
            ended.append(how)
    count = {how: ended.count(how) for how in ("done", "failed", "not run")}
    took = time.monotonic() - started
    print(f"{count['done']} done, {count['failed']} failed, {count['not run']} not run, {took:.0f} s")
    if count["failed"] or (count["not run"] and not given.allow_not_run):
        sys.exit(1)


main()
