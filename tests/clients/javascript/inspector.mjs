// npm @modelcontextprotocol/inspector 2.x: `mcpdo`, which holds a connection between commands, and
// the checks of `inspector --cli --strict`.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { Updates } from './updates.mjs';

const run = promisify(execFile);
const clients = join(
  dirname(createRequire(import.meta.url).resolve('@modelcontextprotocol/inspector/package.json')),
  'clients',
);
const MCPDO = join(clients, 'mcpdo/build/mcp-bin.js');
const INSPECTOR = join(clients, 'launcher/build/index.js');
/** Exit code of mcpdo where a tool turned the call down. */
const IS_ERROR = 5;

let connections = 0;

/** A connection over `transport` to `target`: a binary for stdio, else a URL. */
export async function connect(transport, era, target, headers) {
  const connection = new Connection(`c${++connections}`);
  const environment = ['-e', `IPFS_ACCELERATE_HOME=${process.env.IPFS_ACCELERATE_HOME}`];
  const where = transport === 'stdio'
    ? [...environment, '--', target, 'mcp', 'start']
    : ['--transport', transport, '--server-url', target, ...headerOptions(headers)];
  await connection.mcpdo('connect', '--era', era, ...where);
  if (connections === 1) await isStrict(transport, era, where);
  return connection;
}

function headerOptions(headers) {
  return Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`]);
}

/** The schemas of the tools have no error by the Inspector's own reading. */
async function isStrict(transport, era, where) {
  const method = ['--method', 'tools/list', '--protocol-era', era];
  const { stderr } = await run(process.execPath, [INSPECTOR, '--cli', '--strict', ...method, ...where]);
  assert.match(stderr, /^0 errors/m);
}

/** Ends the process that holds the connections. */
export async function end() {
  await run(process.execPath, [MCPDO, 'daemon', 'stop']);
}

class Connection {
  // mcpdo asks for no progress, and looks itself whether the server has a tool.
  reportsProgress = false;
  isUnknownTool = error => JSON.parse(error.stderr).error.code === 'tool_not_found';
  isUnknownResource = error => JSON.parse(error.stderr).error.message.startsWith('no task "nowhere"');

  constructor(name) {
    this.name = name;
  }

  async mcpdo(...command) {
    const options = ['--format', 'json', '--connection', this.name];
    const { stdout } = await run(process.execPath, [MCPDO, ...options, ...command]);
    return JSON.parse(stdout);
  }

  about() {
    return this.mcpdo('connections/show');
  }

  async tools() {
    return (await this.mcpdo('tools/list')).tools;
  }

  async resources() {
    return (await this.mcpdo('resources/list')).resources.map(resource => resource.uri);
  }

  async templates() {
    const { resourceTemplates } = await this.mcpdo('resources/templates/list');
    return resourceTemplates.map(template => template.uriTemplate);
  }

  async prompts() {
    return (await this.mcpdo('prompts/list')).prompts.map(prompt => prompt.name);
  }

  async call(name, args) {
    try {
      return await this.mcpdo('tools/call', name, JSON.stringify(args));
    } catch (error) {
      if (error.code === IS_ERROR && error.stdout) return JSON.parse(error.stdout);
      throw error;
    }
  }

  async read(uri) {
    return (await this.mcpdo('resources/read', uri)).contents;
  }

  async prompt(name, args) {
    const pairs = Object.entries(args).flatMap(([key, value]) => ['--prompt-args', `${key}=${value}`]);
    return (await this.mcpdo('prompts/get', name, ...pairs)).messages;
  }

  async complete(uri, name, value) {
    const reference = ['--complete-ref-type', 'ref/resource', '--complete-ref', uri];
    const argument = ['--complete-arg-name', name, '--complete-arg-value', value];
    return (await this.mcpdo('prompts/complete', ...reference, ...argument)).values;
  }

  /** What waits until the resource was updated, and how to stop watching it. */
  async watch(uri) {
    const options = ['--format', 'text', '--plain', '--connection', this.name];
    const command = [MCPDO, ...options, 'resources/subscribe', uri];
    const watcher = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise(resolve => watcher.on('close', resolve));
    const updates = new Updates();
    const subscribed = new Promise((resolve, reject) => {
      ended.then(code => reject(new Error(`resources/subscribe ended with ${code}`)));
      createInterface({ input: watcher.stdout }).on('line', line => {
        const [what, uri] = line.split(': ');
        if (what === 'Subscribed') resolve();
        if (what === 'Resource updated') updates.add(uri);
      });
    });
    await subscribed;
    const close = async () => {
      watcher.kill('SIGINT');
      await ended;
    };
    return { updated: () => updates.next(), close };
  }

  async close() {
    await this.mcpdo('disconnect');
  }
}
