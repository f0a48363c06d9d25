"""Does one task of code generation: a module from its description, or a check of such modules.

A model would write the code; a template stands in for it. The check parses the code and never runs
it: it came from another worker.
"""

import ast
import json
import sys


def module(payload):
    lines = ["from dataclasses import dataclass", ""]
    for made in payload["classes"]:
        fields = [f"    {name}: {kind}" for name, kind in made["fields"].items()]
        lines += ["", "@dataclass", f"class {made['name']}:", *fields, ""]
    return {"file": f"{payload['module']}.py", "source": "\n".join(lines)}


def check(payload, modules):
    found = set()
    for made in modules:
        tree = ast.parse(made["source"], made["file"])
        found |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    missing = sorted(set(payload["classes"]) - found)
    if missing:
        sys.exit(f"no class is named {', '.join(missing)}")
    return {"files": sorted(made["file"] for made in modules), "classes": sorted(found)}


task = json.load(sys.stdin)
payload = task["payload"]
if payload["goal"] == "a module":
    result = module(payload)
else:
    result = check(payload, task["dependency_results"].values())
json.dump(result, sys.stdout)
