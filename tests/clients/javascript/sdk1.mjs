// npm @modelcontextprotocol/sdk 1.x, which knows the handshake only.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

import { Updates } from './updates.mjs';

const INVALID_PARAMS = -32602;

/** A connection over `transport` to `target`: a binary for stdio, else a URL. */
export async function connect(transport, era, target, headers) {
  if (era !== 'legacy') throw new Error(`this library does not know the ${era} era`);
  const client = new Client({ name: 'doors', version: '1' });
  const door = doors[transport](target, { requestInit: { headers } });
  // The only place where this library shows which version was agreed on.
  let protocolVersion;
  door.setProtocolVersion = (was => version => {
    protocolVersion = version;
    was?.call(door, version);
  })(door.setProtocolVersion);
  await client.connect(door);
  return new Connection(client, door, protocolVersion);
}

const doors = {
  stdio: binary => new StdioClientTransport({ command: binary, args: ['mcp', 'start'], env: process.env }),
  http: (url, options) => new StreamableHTTPClientTransport(new URL(url), options),
  sse: (url, options) => new SSEClientTransport(new URL(url), options),
};

class Connection {
  reportsProgress = true;
  isUnknownTool = error => error.code === INVALID_PARAMS;
  isUnknownResource = (error, uri) => error.data.uri === uri;

  constructor(client, door, protocolVersion) {
    this.client = client;
    this.door = door;
    this.protocolVersion = protocolVersion;
    this.updates = new Updates();
    const updated = ResourceUpdatedNotificationSchema;
    client.setNotificationHandler(updated, ({ params }) => this.updates.add(params.uri));
  }

  async about() {
    return { protocolVersion: this.protocolVersion, instructions: this.client.getInstructions() };
  }

  async tools() {
    return (await this.client.listTools()).tools;
  }

  async resources() {
    return (await this.client.listResources()).resources.map(resource => resource.uri);
  }

  async templates() {
    const { resourceTemplates } = await this.client.listResourceTemplates();
    return resourceTemplates.map(template => template.uriTemplate);
  }

  async prompts() {
    return (await this.client.listPrompts()).prompts.map(prompt => prompt.name);
  }

  call(name, args, onprogress) {
    return this.client.callTool({ name, arguments: args }, undefined, { onprogress });
  }

  async read(uri) {
    return (await this.client.readResource({ uri })).contents;
  }

  async prompt(name, args) {
    return (await this.client.getPrompt({ name, arguments: args })).messages;
  }

  async complete(uri, name, value) {
    const params = { ref: { type: 'ref/resource', uri }, argument: { name, value } };
    return (await this.client.complete(params)).completion.values;
  }

  /** What waits until the resource was updated, and how to stop watching it. */
  async watch(uri) {
    await this.client.subscribeResource({ uri });
    return {
      updated: () => this.updates.next(),
      close: () => this.client.unsubscribeResource({ uri }),
    };
  }

  async close() {
    await this.door.terminateSession?.();
    await this.client.close();
  }
}
