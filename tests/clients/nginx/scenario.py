"""The official Python client works through a TLS proxy, over both HTTP transports.

Usage: scenario.py URL, with the token in TOKEN and the certificate's authority in SSL_CERT_FILE.
The URL's host is looked for on this machine, whatever its name.
"""

import asyncio
import os
import socket
import ssl
import sys

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

URL = sys.argv[1]
HEADERS = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
# Far longer than an answer takes that nothing keeps back, and shorter than the wait for it.
SOON = 20
WAIT = 45

look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: look_up("127.0.0.1", *more, **named)


def http(headers=None, timeout=None, auth=None):
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    return httpx2.AsyncClient(
        headers={**HEADERS, **(headers or {})},
        timeout=timeout or 60,
        auth=auth,
        verify=context,
        trust_env=False,
    )


def streamable():
    return streamable_http_client(f"{URL}/mcp", http_client=http())


def sse():
    return sse_client(f"{URL}/sse", httpx_client_factory=http)


async def call(client, tool, **arguments):
    """Calls a tool that must succeed; the client checks the answer against the output schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def works(name, transport, mode):
    """One task, handed in while its taker waits, taken, done: over two connections."""
    async with Client(transport(), mode=mode) as boss, Client(transport(), mode=mode) as worker:
        tools = await worker.list_tools()
        assert len(tools.tools) == 7, tools
        waiting = asyncio.create_task(
            call(worker, "p2p_get_next_task", workflow_id=name, wait_seconds=WAIT)
        )
        async with asyncio.timeout(SOON):
            await call(
                boss,
                "p2p_submit_task",
                task_id=name,
                workflow_id=name,
                name="Over TLS",
                tags=["p2p-only"],
            )
            taken = await waiting
            report = {"task_id": taken["task"]["task_id"], "fence": taken["lease"]["fence"]}
            marked = await call(worker, "p2p_mark_task_complete", **report)
        assert marked["state"] == "completed", marked
    print(f"nginx: {name}: a task was handed in, taken and completed")


async def main():
    await works("sse", sse, "legacy")
    await works("streamable-with-a-session", streamable, "legacy")
    await works("streamable-without-a-session", streamable, "auto")


asyncio.run(main())
