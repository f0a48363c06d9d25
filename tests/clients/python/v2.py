"""PyPI mcp 2.x: one client for both protocol eras."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import httpx2
from mcp import Client, MCPError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

MODERN = "2026-07-28"


@asynccontextmanager
async def connect(transport, era, target, headers):
    """A connection over `transport` to `target`: a binary for stdio, else a URL."""
    updates = asyncio.Queue()

    async def on_message(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            updates.put_nowait(str(message.params.uri))

    mode = "auto" if era == "modern" else "legacy"
    async with httpx2.AsyncClient(headers=headers, timeout=None) as http:
        if transport == "stdio":
            environment = {"IPFS_ACCELERATE_HOME": os.environ["IPFS_ACCELERATE_HOME"]}
            server = StdioServerParameters(command=target, args=["mcp", "start"], env=environment)
        elif transport == "sse":
            server = sse_client(target, headers=headers)
        else:
            server = streamable_http_client(target, http_client=http if headers else None)
        async with Client(server, mode=mode, message_handler=on_message) as client:
            yield Connection(client, updates)


class Connection:
    def __init__(self, client, updates):
        self.client = client
        self.updates = updates
        self.protocol_version = client.protocol_version
        self.instructions = client.instructions

    async def tools(self):
        listed = await self.client.list_tools()
        return [tool.model_dump(by_alias=True, exclude_none=True) for tool in listed.tools]

    async def resources(self):
        return [str(resource.uri) for resource in (await self.client.list_resources()).resources]

    async def templates(self):
        listed = await self.client.list_resource_templates()
        return [template.uri_template for template in listed.resource_templates]

    async def prompts(self):
        return [prompt.name for prompt in (await self.client.list_prompts()).prompts]

    async def call(self, tool, arguments, on_progress=None):
        """Structured content and text; the former is None where the call was turned down."""
        result = await self.client.call_tool(tool, arguments, progress_callback=on_progress)
        assert result.is_error == (result.structured_content is None), result
        return result.structured_content, result.content[0].text

    async def read(self, uri):
        [content] = (await self.client.read_resource(uri)).contents
        assert str(content.uri) == uri, content
        return json.loads(content.text)

    async def protocol_error(self, method, *arguments):
        """The code and the data of the error that a request is answered with."""
        try:
            answer = await getattr(self.client, method)(*arguments)
        except MCPError as error:
            return error.error.code, error.error.data
        raise AssertionError(f"{method} {arguments} was answered: {answer}")

    async def prompt(self, name, arguments):
        got = await self.client.get_prompt(name, arguments)
        return [message.content.text for message in got.messages]

    async def complete(self, template, argument, value):
        reference = types.ResourceTemplateReference(type="ref/resource", uri=template)
        argument = {"name": argument, "value": value}
        return (await self.client.complete(reference, argument)).completion.values

    @asynccontextmanager
    async def watch(self, uri):
        """Yields a function that waits until the resource was updated, and names it."""
        if self.protocol_version == MODERN:
            async with self.client.listen(resource_subscriptions=[uri]) as events:
                assert events.honored.resource_subscriptions == [uri], events.honored
                yield lambda: uri_of(events)
        else:
            await self.client.subscribe_resource(uri)
            yield self.updates.get
            await self.client.unsubscribe_resource(uri)


async def uri_of(events):
    return str((await anext(events)).uri)
