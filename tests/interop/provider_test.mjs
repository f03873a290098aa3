// What the broker's tests rely on in the foreign server: that it is strict where they need it to be.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const REDIRECT = 'http://127.0.0.1:7777/callback';
let process_;
let server;

before(async () => {
  process_ = spawn(process.execPath, [fileURLToPath(new URL('provider.mjs', import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface({ input: process_.stdout }), 'line');
  server = JSON.parse(line);
});

after(async () => {
  // The end of its standard input is enough to end it.
  const ended = once(process_, 'exit');
  process_.stdin.end();
  assert.deepEqual(await ended, [0, null]);
});

async function consent(parameters = {}) {
  const query = new URLSearchParams({
    response_type: 'code',
    client_id: server.client_id,
    redirect_uri: REDIRECT,
    scope: 'ZOHOPEOPLE.employee.READ,ZOHOPEOPLE.forms.ALL',
    access_type: 'offline',
    prompt: 'consent',
    state: 'a state',
    ...parameters,
  });
  return (await fetch(`${server.url}/test/consent?${query}`)).json();
}

async function token(parameters) {
  const body = new URLSearchParams({
    client_id: server.client_id,
    client_secret: server.client_secret,
    ...parameters,
  });
  const reply = await fetch(`${server.url}/oauth/v2/token`, { method: 'POST', body });
  return { status: reply.status, ...(await reply.json()) };
}

const exchange = (code) => token({ grant_type: 'authorization_code', redirect_uri: REDIRECT, code });
const refresh = (refreshToken) => token({ grant_type: 'refresh_token', refresh_token: refreshToken });

test('a consent gives a code, once, and the code a refresh token', async () => {
  const { code, state, redirect } = await consent();
  assert.equal(state, 'a state');
  assert.ok(redirect.startsWith(REDIRECT));
  const tokens = await exchange(code);
  assert.equal(tokens.status, 200);
  assert.equal(tokens.expires_in, 3600);
  // Asked with a comma, as Zoho wants it.
  assert.equal(tokens.scope, 'ZOHOPEOPLE.employee.READ ZOHOPEOPLE.forms.ALL');
  assert.ok(tokens.access_token && tokens.refresh_token);
  const again = await exchange(code);
  assert.deepEqual([again.status, again.error], [400, 'invalid_grant']);
});

test('a refresh rotates the refresh token, and a used one kills the grant', async () => {
  const first = await exchange((await consent()).code);
  const second = await refresh(first.refresh_token);
  assert.equal(second.status, 200);
  assert.notEqual(second.refresh_token, first.refresh_token);
  assert.notEqual(second.access_token, first.access_token);
  const third = await refresh(second.refresh_token);
  assert.equal(third.status, 200);
  assert.equal((await refresh(first.refresh_token)).error, 'invalid_grant');
  // The one that had been good until then.
  assert.equal((await refresh(third.refresh_token)).error, 'invalid_grant');
});

test('grants are apart from each other', async () => {
  const one = await exchange((await consent()).code);
  const other = await exchange((await consent()).code);
  const next = await refresh(one.refresh_token);
  assert.equal((await refresh(one.refresh_token)).error, 'invalid_grant');
  assert.equal((await refresh(next.refresh_token)).error, 'invalid_grant');
  assert.equal((await refresh(other.refresh_token)).status, 200);
});

test('a wrong secret is refused', async () => {
  const reply = await token({ grant_type: 'refresh_token', refresh_token: 'x', client_secret: 'x' });
  assert.deepEqual([reply.status, reply.error], [401, 'invalid_client']);
});

test('the log counts token requests by outcome', async () => {
  const count = async (key) => (await (await fetch(`${server.url}/test/log`)).json()).counts[key] ?? 0;
  const good = await count('refresh_token success');
  const bad = await count('refresh_token invalid_grant');
  const tokens = await exchange((await consent()).code);
  await refresh(tokens.refresh_token);
  await refresh(tokens.refresh_token);
  assert.equal(await count('refresh_token success'), good + 1);
  assert.equal(await count('refresh_token invalid_grant'), bad + 1);
});
