"""PyPI mcp 1.x, which knows the handshake only."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import httpx
from mcp import ClientSession, McpError, StdioServerParameters, stdio_client, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client


@asynccontextmanager
async def connect(transport, era, target, headers):
    """A connection over `transport` to `target`: a binary for stdio, else a URL."""
    assert era == "legacy", era
    updates = asyncio.Queue()

    async def on_message(message):
        update = getattr(message, "root", None)
        if isinstance(update, types.ResourceUpdatedNotification):
            updates.put_nowait(str(update.params.uri))

    async with httpx.AsyncClient(headers=headers, timeout=None) as http:
        if transport == "stdio":
            environment = {"IPFS_ACCELERATE_HOME": os.environ["IPFS_ACCELERATE_HOME"]}
            server = StdioServerParameters(command=target, args=["mcp", "start"], env=environment)
            streams = stdio_client(server)
        elif transport == "sse":
            streams = sse_client(target, headers=headers)
        else:
            streams = streamable_http_client(target, http_client=http if headers else None)
        async with streams as (reader, writer, *_):
            async with ClientSession(reader, writer, message_handler=on_message) as session:
                yield Connection(session, await session.initialize(), updates)


class Connection:
    def __init__(self, session, initialized, updates):
        self.session = session
        self.updates = updates
        self.protocol_version = initialized.protocolVersion
        self.instructions = initialized.instructions

    async def tools(self):
        listed = await self.session.list_tools()
        return [tool.model_dump(by_alias=True, exclude_none=True) for tool in listed.tools]

    async def resources(self):
        return [str(resource.uri) for resource in (await self.session.list_resources()).resources]

    async def templates(self):
        listed = await self.session.list_resource_templates()
        return [template.uriTemplate for template in listed.resourceTemplates]

    async def prompts(self):
        return [prompt.name for prompt in (await self.session.list_prompts()).prompts]

    async def call(self, tool, arguments, on_progress=None):
        """Structured content and text; the former is None where the call was turned down."""
        result = await self.session.call_tool(tool, arguments, progress_callback=on_progress)
        assert result.isError == (result.structuredContent is None), result
        return result.structuredContent, result.content[0].text

    async def read(self, uri):
        [content] = (await self.session.read_resource(uri)).contents
        assert str(content.uri) == uri, content
        return json.loads(content.text)

    async def protocol_error(self, method, *arguments):
        """The code and the data of the error that a request is answered with."""
        try:
            answer = await getattr(self.session, method)(*arguments)
        except McpError as error:
            return error.error.code, error.error.data
        raise AssertionError(f"{method} {arguments} was answered: {answer}")

    async def prompt(self, name, arguments):
        got = await self.session.get_prompt(name, arguments)
        return [message.content.text for message in got.messages]

    async def complete(self, template, argument, value):
        reference = types.ResourceTemplateReference(type="ref/resource", uri=template)
        argument = {"name": argument, "value": value}
        return (await self.session.complete(reference, argument)).completion.values

    @asynccontextmanager
    async def watch(self, uri):
        """Yields a function that waits until the resource was updated, and names it."""
        await self.session.subscribe_resource(uri)
        yield self.updates.get
        await self.session.unsubscribe_resource(uri)
