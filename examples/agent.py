"""An MCP client that works through a workflow: what an agent does, with a command in place of a model.

    python3 agent.py [--workflow ID] -- COMMAND [ARGUMENT...]

It starts `ipfs-accelerate mcp start` and speaks MCP with it over stdio. It gets the prompt
`work-loop` and follows it: take a task, do it (the command gets it as JSON on stdin), report, until
no task is waiting.
"""

import argparse
import json
import os
import subprocess
import sys
import time


class Client:
    """The least of an MCP client: one request at a time, one JSON object a line."""

    def __init__(self, server):
        self.server = subprocess.Popen(
            server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.last_id = 0
        info = {"name": "agent.py", "version": "1"}
        hello = {"protocolVersion": "2025-06-18", "clientInfo": info, "capabilities": {}}
        self.request("initialize", hello)
        self.send({"method": "notifications/initialized"})

    def send(self, message):
        self.server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.server.stdin.flush()

    def request(self, method, params):
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        for line in self.server.stdout:
            answer = json.loads(line)
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise RuntimeError(answer["error"]["message"])
                return answer["result"]
        raise RuntimeError("the server hung up")

    def call(self, tool, arguments):
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
        return result["structuredContent"]

    def close(self):
        self.server.stdin.close()
        self.server.wait()


def do(task, command):
    """The outcome of a task, as `p2p_mark_task_complete` takes it."""
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True)
    if done.returncode == 0:
        return {"outcome": "completed", "result": json.loads(done.stdout)}
    return {"outcome": "failed", "error": done.stderr[-1000:] or f"exit code {done.returncode}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workflow", help="only tasks of this workflow")
    parser.add_argument("command", nargs="+", help="does one task")
    options = parser.parse_args()
    binary = os.environ.get("IPFS_ACCELERATE", "ipfs-accelerate")
    client = Client([binary, "mcp", "start"])
    scope = {"workflow_id": options.workflow} if options.workflow else {}

    # A model reads this and knows what to do; what follows is the same, in Python.
    prompt = client.request("prompts/get", {"name": "work-loop", "arguments": scope})
    print(prompt["messages"][0]["content"]["text"].splitlines()[0], file=sys.stderr)

    completed = 0
    while True:
        given = client.call("p2p_get_next_task", {"wait_seconds": 0, **scope})
        task = given["task"]
        if task is None:
            if "retry_after_seconds" not in given:
                break
            time.sleep(given["retry_after_seconds"])
            continue
        report = do(task, options.command)
        report.update(task_id=task["task_id"], fence=given["lease"]["fence"])
        client.call("p2p_mark_task_complete", report)
        completed += report["outcome"] == "completed"
        print(task["task_id"], report["outcome"], report.get("error", ""), file=sys.stderr)
    client.close()
    print(f"{completed} tasks completed")


if __name__ == "__main__":
    main()
