// npm @modelcontextprotocol/client 2.x: one client for both protocol eras.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

import { Updates } from './updates.mjs';

const INVALID_PARAMS = -32602;

/** A connection over `transport` to `target`: a binary for stdio, else a URL. */
export async function connect(transport, era, target, headers) {
  const mode = era === 'modern' ? 'auto' : 'legacy';
  const client = new Client({ name: 'doors', version: '1' }, { versionNegotiation: { mode } });
  await client.connect(doors[transport](target, { requestInit: { headers } }));
  return new Connection(client, era);
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

  constructor(client, era) {
    this.client = client;
    this.era = era;
    this.updates = new Updates();
    const updated = 'notifications/resources/updated';
    client.setNotificationHandler(updated, ({ params }) => this.updates.add(params.uri));
  }

  async about() {
    const [protocolVersion, instructions] =
      [this.client.getNegotiatedProtocolVersion(), this.client.getInstructions()];
    return { protocolVersion, instructions };
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
    return this.client.callTool({ name, arguments: args }, { onprogress });
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
    const updated = () => this.updates.next();
    if (this.era === 'modern') {
      const listening = await this.client.listen({ resourceSubscriptions: [uri] });
      const honored = listening.honoredFilter.resourceSubscriptions;
      if (honored?.join() !== uri) throw new Error(`asked for ${uri}, promised ${honored}`);
      return { updated, close: () => listening.close() };
    }
    await this.client.subscribeResource({ uri });
    return { updated, close: () => this.client.unsubscribeResource({ uri }) };
  }

  close() {
    return this.client.close();
  }
}
