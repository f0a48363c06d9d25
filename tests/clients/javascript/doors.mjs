// The scenario that every client does over every transport, in the clients for JavaScript.
//
// Usage: doors.mjs LIBRARY TRANSPORT ERA TARGET. LIBRARY is client2, sdk1 or inspector. TRANSPORT
// is stdio (TARGET: the binary, IPFS_ACCELERATE_HOME: an empty directory), http or sse (TARGET: a
// URL, TOKEN: the bearer token, if one is needed); ERA is modern (2026-07-28) or legacy (the
// handshake).
//
// Prints each step before it is taken, so that the last line of a failed run says where it stopped.

import assert from 'node:assert/strict';

// Longer than any run takes on a busy machine.
const PATIENCE = 150_000;

const TOOLS = [
  'p2p_check_workflow_tags',
  'p2p_get_merkle_clock',
  'p2p_get_next_task',
  'p2p_mark_task_complete',
  'p2p_scheduler_status',
  'p2p_submit_task',
  'p2p_update_peer_state',
];
const HINTS = ['destructiveHint', 'idempotentHint', 'openWorldHint', 'readOnlyHint'];
const RESOURCES = ['p2p://status', 'p2p://clock', 'p2p://peers'];
const TEMPLATES = ['p2p://tasks/{task_id}', 'p2p://workflows/{workflow_id}'];
const PROMPTS = ['plan-workflow', 'work-loop'];
const PROTOCOLS = { modern: '2026-07-28', legacy: '2025-11-25' };

const step = text => console.log(text);

/** Calls a tool that must succeed; the library checks the answer against the output schema. */
async function done(client, tool, args = {}, onProgress) {
  const result = await client.call(tool, args, onProgress);
  assert(!result.isError, result.content[0]?.text);
  return result.structuredContent;
}

/** Calls a tool that must turn the call down, with this code and text only. */
async function refused(client, code, tool, args) {
  const result = await client.call(tool, args);
  assert.equal(result.isError, true);
  assert.equal(result.structuredContent, undefined);
  assert.match(result.content[0].text, new RegExp(`\ncode: ${code}$`));
}

const task = (task_id, more) =>
  ({ task_id, workflow_id: 'release', name: `Do ${task_id}`, tags: ['p2p-only'], ...more });

/** What a resource shows. */
async function shown(client, uri) {
  const [content, ...more] = await client.read(uri);
  assert.equal(content.uri, uri);
  assert.deepEqual(more, []);
  return JSON.parse(content.text);
}

async function lists(client, era) {
  step(`the ${era} era is spoken`);
  const { protocolVersion, instructions } = await client.about();
  assert.equal(protocolVersion, PROTOCOLS[era]);
  assert(instructions.length > 0 && instructions.length <= 900, instructions);
  step('the seven tools are listed, each with title, hints and both schemas');
  const tools = await client.tools();
  assert.deepEqual(tools.map(tool => tool.name).sort(), TOOLS);
  for (const tool of tools) {
    assert(tool.title && tool.description, tool.name);
    assert.deepEqual(Object.keys(tool.annotations).filter(key => key !== 'title').sort(), HINTS);
    assert.equal(tool.inputSchema.type, 'object');
    assert.equal(tool.outputSchema.type, 'object');
  }
  step('resources, templates and prompts are listed');
  const resources = await client.resources();
  for (const uri of RESOURCES) assert(resources.includes(uri), `${uri} in ${resources}`);
  assert.deepEqual((await client.templates()).sort(), TEMPLATES);
  assert.deepEqual((await client.prompts()).sort(), PROMPTS);
}

async function submits(client) {
  step('tasks are submitted with dependencies, and once only');
  const build = task('build', { payload: { target: 'all' } });
  const { created, state } = await done(client, 'p2p_submit_task', build);
  assert.deepEqual({ created, state }, { created: true, state: 'pending' });
  const test = await done(client, 'p2p_submit_task', task('test', { depends_on: ['build'] }));
  assert.equal(test.state, 'blocked');
  assert.equal((await done(client, 'p2p_submit_task', build)).created, false);
}

async function works(client) {
  step('a task is taken, renewed and completed while another that waits for it is watched');
  const watched = 'p2p://tasks/test';
  const watch = await client.watch(watched);
  assert.equal((await shown(client, watched)).state, 'blocked');
  const taken = await done(client, 'p2p_get_next_task');
  assert.equal(taken.task.task_id, 'build');
  assert.deepEqual(taken.task.payload, { target: 'all' });
  const report = { task_id: 'build', fence: taken.lease.fence };
  const renewal = { ...report, outcome: 'in_progress', note: 'half way' };
  assert.equal((await done(client, 'p2p_mark_task_complete', renewal)).state, 'assigned');
  const result = { ...report, result: { size: 7 } };
  const { state, unblocked } = await done(client, 'p2p_mark_task_complete', result);
  assert.deepEqual({ state, unblocked }, { state: 'completed', unblocked: ['test'] });
  step('the update of the watched task comes');
  assert.equal(await watch.updated(), watched);
  assert.equal((await shown(client, watched)).state, 'pending');
  step('the subscription is ended');
  await watch.close();
}

async function isRefused(client) {
  step('a report with the fence of an earlier attempt is refused');
  const { fence } = (await done(client, 'p2p_get_next_task')).lease;
  const report = 'p2p_mark_task_complete';
  await done(client, report, { task_id: 'test', fence, outcome: 'released' });
  const taken = await done(client, 'p2p_get_next_task');
  assert.equal(taken.task.task_id, 'test');
  assert(taken.lease.fence > fence);
  assert.deepEqual(taken.task.dependency_results, { build: { size: 7 } });
  await refused(client, 'stale_fence', report, { task_id: 'test', fence });
  await done(client, report, { task_id: 'test', fence: taken.lease.fence });
  step('unknown tasks, bad arguments and unknown tags are refused, each with its code');
  await refused(client, 'task_not_found', report, { task_id: 'nowhere' });
  await refused(client, 'invalid_argument', 'p2p_submit_task', task('urgent', { priority: 11 }));
  await refused(client, 'unknown_tag', 'p2p_submit_task', task('odd', { tags: ['p2p-odd'] }));
  step('unknown tools and resources are errors of the protocol');
  await assert.rejects(client.call('p2p_make_coffee', {}), client.isUnknownTool);
  const uri = 'p2p://tasks/nowhere';
  await assert.rejects(client.read(uri), error => client.isUnknownResource(error, uri));
}

async function waits(worker, other) {
  step('a wait reports progress, and ends with what another connection submits');
  let progress;
  const underWay = new Promise(resolve => (progress = resolve));
  const wait = done(worker, 'p2p_get_next_task', { wait_seconds: 50 }, progress);
  if (worker.reportsProgress) await Promise.race([underWay, wait.then(unasked)]);
  // Where no progress tells that the wait has begun, the task is ready a little later.
  const delay = worker.reportsProgress ? {} : { delay_seconds: 2 };
  await done(other, 'p2p_submit_task', task('deploy', delay));
  const taken = await wait;
  assert.equal(taken.task.task_id, 'deploy');
  const report = { task_id: 'deploy', fence: taken.lease.fence };
  await done(worker, 'p2p_mark_task_complete', report);
}

function unasked(taken) {
  throw new Error(`the wait ended without progress: ${JSON.stringify(taken)}`);
}

async function isPrompted(client) {
  step('a prompt is given, and task ids are completed');
  const messages = await client.prompt('work-loop', {});
  assert(messages.some(message => message.content.text.includes('p2p_get_next_task')));
  assert.deepEqual(await client.complete(TEMPLATES[0], 'task_id', 'de'), ['deploy']);
}

async function scenario(library, transport, era, target) {
  const token = process.env.TOKEN;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const worker = await library.connect(transport, era, target, headers);
  const other = await library.connect(transport, era, target, headers);
  await lists(worker, era);
  await submits(other);
  await works(worker);
  await isRefused(worker);
  await waits(worker, other);
  await isPrompted(other);
  step('every resource can be read');
  for (const uri of [...await other.resources(), 'p2p://workflows/release']) await shown(other, uri);
  step('both connections see the same end');
  for (const client of [worker, other]) {
    const { completed_tasks, pending_tasks } = await done(client, 'p2p_scheduler_status');
    assert.deepEqual({ completed_tasks, pending_tasks }, { completed_tasks: 3, pending_tasks: 0 });
  }
  step('the connections are closed');
  for (const client of [worker, other]) await client.close();
}

function late() {
  return new Promise((_, reject) => {
    const error = new Error(`this took longer than ${PATIENCE} ms`);
    setTimeout(reject, PATIENCE, error).unref();
  });
}

const [name, ...rest] = process.argv.slice(2);
const library = await import(`./${name}.mjs`);
try {
  await Promise.race([scenario(library, ...rest), late()]);
} finally {
  await library.end?.();
}
step('all done');
// What a library leaves open after its connections are closed is no concern here.
process.exit();
