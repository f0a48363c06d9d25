"""The scenario that every client does over every transport, in PyPI mcp 2.x and 1.x.

Usage: doors.py TRANSPORT ERA TARGET, with the library of the Python that runs it. TRANSPORT is
stdio (TARGET: the binary, IPFS_ACCELERATE_HOME: an empty directory), http or sse (TARGET: a URL,
TOKEN: the bearer token, if one is needed); ERA is modern (2026-07-28) or legacy (the handshake).

Prints each step before it is taken, so that the last line of a failed run says where it stopped.
"""

import asyncio
import importlib.metadata
import os
import sys
from contextlib import asynccontextmanager

if importlib.metadata.version("mcp").startswith("1."):
    import v1 as library
else:
    import v2 as library

# Longer than any run takes on a busy machine, in seconds.
PATIENCE = 150

TOOLS = [
    "p2p_scheduler_status",
    "p2p_submit_task",
    "p2p_get_next_task",
    "p2p_mark_task_complete",
    "p2p_check_workflow_tags",
    "p2p_update_peer_state",
    "p2p_get_merkle_clock",
]
HINTS = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"]
RESOURCES = ["p2p://status", "p2p://clock", "p2p://peers"]
TEMPLATES = ["p2p://tasks/{task_id}", "p2p://workflows/{workflow_id}"]
PROMPTS = ["work-loop", "plan-workflow"]
PROTOCOLS = {"modern": "2026-07-28", "legacy": "2025-11-25"}
INVALID_PARAMS = -32602


def step(text):
    print(text, flush=True)


async def done(client, tool, **arguments):
    """Calls a tool that must succeed; the library checks the answer against the output schema."""
    structured, text = await client.call(tool, arguments)
    assert structured is not None, text
    return structured


async def refused(client, code, tool, **arguments):
    """Calls a tool that must turn the call down, with this code."""
    structured, text = await client.call(tool, arguments)
    assert structured is None, structured
    assert text.endswith(f"\ncode: {code}"), text


def task(task_id, **more):
    return {
        "task_id": task_id,
        "workflow_id": "release",
        "name": f"Do {task_id}",
        "tags": ["p2p-only"],
        **more,
    }


async def lists(client, era):
    step(f"the {era} era is spoken")
    assert client.protocol_version == PROTOCOLS[era], client.protocol_version
    assert 0 < len(client.instructions) <= 900, client.instructions
    step("the seven tools are listed, each with title, hints and both schemas")
    tools = await client.tools()
    assert sorted(tool["name"] for tool in tools) == sorted(TOOLS), tools
    for tool in tools:
        assert tool["title"] and tool["description"], tool
        assert all(hint in tool["annotations"] for hint in HINTS), tool
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object", tool
    step("resources, templates and prompts are listed")
    resources = await client.resources()
    assert set(RESOURCES) <= set(resources), resources
    assert sorted(await client.templates()) == sorted(TEMPLATES)
    assert sorted(await client.prompts()) == sorted(PROMPTS)


async def submits(client):
    step("tasks are submitted with dependencies, and once only")
    build = await done(client, "p2p_submit_task", **task("build", payload={"target": "all"}))
    assert build["created"] and build["state"] == "pending", build
    test = await done(client, "p2p_submit_task", **task("test", depends_on=["build"]))
    assert test["created"] and test["state"] == "blocked", test
    again = await done(client, "p2p_submit_task", **task("build", payload={"target": "all"}))
    assert again["success"] and not again["created"], again


async def works(client):
    step("a task is taken, renewed and completed while another that waits for it is watched")
    async with client.watch("p2p://tasks/test") as updated:
        assert (await client.read("p2p://tasks/test"))["state"] == "blocked"
        taken = await done(client, "p2p_get_next_task")
        assert taken["task"]["task_id"] == "build", taken
        assert taken["task"]["payload"] == {"target": "all"}, taken
        report = {"task_id": "build", "fence": taken["lease"]["fence"]}
        renewed = await done(
            client, "p2p_mark_task_complete", outcome="in_progress", note="half way", **report
        )
        assert renewed["state"] == "assigned", renewed
        completed = await done(client, "p2p_mark_task_complete", result={"size": 7}, **report)
        assert completed["state"] == "completed" and completed["unblocked"] == ["test"], completed
        step("the update of the watched task comes")
        assert await updated() == "p2p://tasks/test"
        assert (await client.read("p2p://tasks/test"))["state"] == "pending"
    step("the subscription is ended")


async def is_refused(client):
    step("a report with the fence of an earlier attempt is refused")
    earlier = await done(client, "p2p_get_next_task")
    fence = earlier["lease"]["fence"]
    await done(client, "p2p_mark_task_complete", task_id="test", fence=fence, outcome="released")
    taken = await done(client, "p2p_get_next_task")
    assert taken["task"]["task_id"] == "test" and taken["lease"]["fence"] > fence, taken
    assert taken["task"]["dependency_results"] == {"build": {"size": 7}}, taken
    report = "p2p_mark_task_complete"
    await refused(client, "stale_fence", report, task_id="test", fence=fence)
    await done(client, report, task_id="test", fence=taken["lease"]["fence"])
    step("unknown tasks, bad arguments and unknown tags are refused, each with its code")
    await refused(client, "task_not_found", report, task_id="nowhere")
    await refused(client, "invalid_argument", "p2p_submit_task", **task("urgent", priority=11))
    await refused(client, "unknown_tag", "p2p_submit_task", **task("odd") | {"tags": ["p2p-odd"]})
    step("unknown tools and resources are errors of the protocol")
    code, _ = await client.protocol_error("call_tool", "p2p_make_coffee", {})
    assert code == INVALID_PARAMS, code
    unknown = "p2p://tasks/nowhere"
    code, data = await client.protocol_error("read_resource", unknown)
    assert data["uri"] == unknown, (code, data)


async def waits(worker, other):
    step("a wait reports progress, and ends with what another connection submits")
    under_way = asyncio.Event()

    async def on_progress(progress, total, message):
        under_way.set()

    wait = asyncio.ensure_future(
        worker.call("p2p_get_next_task", {"wait_seconds": 50}, on_progress)
    )
    await asyncio.wait([wait, asyncio.ensure_future(under_way.wait())], return_when="FIRST_COMPLETED")
    assert not wait.done(), f"the wait ended without progress: {wait.result()}"
    await done(other, "p2p_submit_task", **task("deploy"))
    taken, text = await wait
    assert taken["task"]["task_id"] == "deploy", text
    fence = taken["lease"]["fence"]
    await done(worker, "p2p_mark_task_complete", task_id="deploy", fence=fence)


async def is_prompted(client):
    step("a prompt is given, and task ids are completed")
    texts = await client.prompt("work-loop", None)
    assert any("p2p_get_next_task" in text for text in texts), texts
    assert await client.complete(TEMPLATES[0], "task_id", "de") == ["deploy"]


async def scenario(transport, era, target):
    token = os.environ.get("TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    @asynccontextmanager
    async def connected():
        async with library.connect(transport, era, target, headers) as client:
            yield client

    async with connected() as worker, connected() as other:
        await lists(worker, era)
        await submits(other)
        await works(worker)
        await is_refused(worker)
        await waits(worker, other)
        await is_prompted(other)
        step("every resource can be read")
        for uri in [*await other.resources(), "p2p://workflows/release"]:
            assert await other.read(uri), uri
        step("both connections see the same end")
        for client in (worker, other):
            status = await done(client, "p2p_scheduler_status")
            assert status["completed_tasks"] == 3 and status["pending_tasks"] == 0, status
        step("the connections are closed")


async def main():
    async with asyncio.timeout(PATIENCE):
        await scenario(*sys.argv[1:])
    step("all done")


asyncio.run(main())
