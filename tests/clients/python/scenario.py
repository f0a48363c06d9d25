"""A workflow of 20 tasks through the official Python client, watched from another process.

Usage: scenario.py PATH_OF_IPFS_ACCELERATE, with IPFS_ACCELERATE_HOME naming an empty directory.

    prepare -> part-00 ... part-17 -> join

Two workers, each with a server of its own, take tasks until the last one is completed. One part
fails at its first attempt and is tried again; one takes so long that its lease is renewed.
"""

import asyncio
import collections
import json
import os
import subprocess
import sys

from mcp import Client, StdioServerParameters

BINARY = sys.argv[1]
PARTS = [f"part-{number:02}" for number in range(18)]
FAILS_ONCE, TAKES_LONG = PARTS[3], PARTS[7]


def server():
    environment = {"IPFS_ACCELERATE_HOME": os.environ["IPFS_ACCELERATE_HOME"]}
    return StdioServerParameters(command=BINARY, args=["mcp", "start"], env=environment)


async def call(client, tool, **arguments):
    """Calls a tool that must succeed; the client checks the answer against the output schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


def states():
    """How many tasks stand where, as a command in another process sees it."""
    command = [BINARY, "p2p-workflow", "list", "--all", "--json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return collections.Counter(task["state"] for task in listed["tasks"])


def task(task_id, depends_on=(), **more):
    return {
        "task_id": task_id,
        "workflow_id": "release",
        "name": f"Do {task_id}",
        "tags": ["p2p-only", "data-processing"],
        "depends_on": list(depends_on),
        **more,
    }


async def submit_all(client):
    await call(client, "p2p_submit_task", **task("join", PARTS, priority=10))
    for number, part in enumerate(PARTS):
        await call(client, "p2p_submit_task", **task(part, ["prepare"], payload={"n": number}))
    await call(client, "p2p_submit_task", **task("prepare"))
    again = await call(client, "p2p_submit_task", **task("prepare"))
    assert not again["created"], again
    assert states() == {"pending": 1, "blocked": 19}, states()


async def run(client, taken, runs):
    """Does one task and reports on it."""
    task_id, fence = taken["task"]["task_id"], taken["lease"]["fence"]
    runs[task_id] += 1
    report = {"task_id": task_id, "fence": fence}
    if task_id == FAILS_ONCE and taken["task"]["attempt"] == 1:
        failed = await call(
            client, "p2p_mark_task_complete", outcome="failed", error="no luck", **report
        )
        assert failed["state"] == "pending" and failed["next_attempt_at"], failed
        return
    if task_id == TAKES_LONG:
        await call(
            client, "p2p_mark_task_complete", outcome="in_progress", note="half way", **report
        )
        seen = states()
        assert seen["assigned"] >= 1 and seen["completed"] < 20, seen
    if task_id == "join":
        results = taken["task"]["dependency_results"]
        result = sum(results[part]["square"] for part in PARTS)
    elif task_id == "prepare":
        result = None
    else:
        result = {"square": taken["task"]["payload"]["n"] ** 2}
    done = await call(client, "p2p_mark_task_complete", result=result, **report)
    assert done["state"] == "completed", done
    if task_id == "prepare":
        assert sorted(done["unblocked"]) == PARTS, done
        seen = states()  # the other worker may have taken a part already
        assert seen["blocked"] == 1 and seen["completed"] >= 1, seen


async def work(client, runs):
    """Takes tasks until nothing is left to take."""
    while True:
        taken = await call(client, "p2p_get_next_task", wait_seconds=2)
        if taken["task"]:
            await run(client, taken, runs)
            continue
        status = await call(client, "p2p_scheduler_status")
        if status["completed_tasks"] == 20:
            return


async def main():
    runs = collections.Counter()
    async with Client(server()) as one, Client(server(), mode="legacy") as two:
        tools = (await one.list_tools()).tools
        assert len(tools) == 7 and all(tool.output_schema for tool in tools), tools
        await submit_all(one)
        await asyncio.gather(work(one, runs), work(two, runs))
        shown = await call(two, "p2p_scheduler_status", task_id="join")
        assert shown["tasks"][0]["result"] == sum(number**2 for number in range(18)), shown
        refused = await two.call_tool("p2p_mark_task_complete", {"task_id": "nowhere"})
        assert refused.is_error and refused.content[0].text.endswith("code: task_not_found")
    expected = {task_id: 1 for task_id in ["prepare", "join", *PARTS]} | {FAILS_ONCE: 2}
    assert runs == expected, runs
    assert states() == {"completed": 20}, states()
    print("20 tasks completed")


asyncio.run(main())
