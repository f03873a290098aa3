// An OAuth server that was not written for this project, npm's oidc-provider, at Zoho's paths.
//
//   node provider.mjs [--redirect-uri URI]... [--access-token-ttl SECONDS] [--token-delay-ms N]
//
// Listens on a free port of 127.0.0.1 and prints one line of JSON when it does:
//   {"url", "client_id", "client_secret", "redirect_uris"}
// Ends on SIGTERM, or when its standard input is closed, so that no test leaves one behind.
//
// What it takes from Zoho: the paths, comma-separated scopes in authorization requests, the secret
// in the form body, a refresh token for every consent. What it does otherwise, on purpose: every
// refresh rotates the refresh token, a used one kills the whole grant, errors have HTTP status 400
// or 401 and the standard's names, replies have no api_domain, scopes that are not known are left
// out of the consent, revocation wants the client's id and secret.
//
// For tests, beside the OAuth endpoints:
//   GET /test/consent?<parameters of the authorization request>
//       walks login and consent as a user's browser would, without asking anybody, and answers
//       {"redirect": "<redirect URI with code and state, or with error>", "code", "state"}
//   GET /test/log
//       {"token_requests": [{"grant_type", "outcome", "in_flight"}], "counts": {"<grant_type>
//       <outcome>": n}, "grants_revoked": n}; outcome is "success" or the error's name; in_flight
//       counts the token requests that were being served at once, this one included.
import { randomBytes } from 'node:crypto';
import { createServer, get } from 'node:http';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

// oidc-provider greets with notices on its development defaults, which are what a test wants.
console.info = console.warn = () => {};
const { default: Provider } = await import('oidc-provider');

const AUTHORIZATION = '/oauth/v2/auth';
const TOKEN = '/oauth/v2/token';
const REVOCATION = '/oauth/v2/token/revoke';

const { values: flags } = parseArgs({
  options: {
    'redirect-uri': { type: 'string', multiple: true, default: ['http://127.0.0.1/callback'] },
    'access-token-ttl': { type: 'string', default: '3600' },
    'token-delay-ms': { type: 'string', default: '0' },
  },
});
const redirectUris = flags['redirect-uri'];
const accessTokenTtl = Number(flags['access-token-ttl']);
const tokenDelay = Number(flags['token-delay-ms']);

const client = {
  client_id: `1000.${randomBytes(15).toString('hex').toUpperCase()}`,
  client_secret: randomBytes(21).toString('hex'),
  redirect_uris: redirectUris,
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_post',
  // Redirect URIs with http on a loopback address are for native applications only.
  application_type: 'native',
};

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const url = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(url, {
  clients: [client],
  scopes: ['employee', 'forms', 'attendance', 'leave', 'timetracker', 'timesheet'].flatMap((name) =>
    ['ALL', 'CREATE', 'READ', 'UPDATE', 'DELETE'].map((right) => `ZOHOPEOPLE.${name}.${right}`),
  ),
  routes: { authorization: AUTHORIZATION, token: TOKEN, revocation: REVOCATION },
  features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  ttl: {
    AccessToken: accessTokenTtl,
    AuthorizationCode: 60,
    Grant: 86400,
    Interaction: 600,
    RefreshToken: 86400,
    Session: 86400,
  },
  // By default a refresh token needs the scope offline_access and dies with the browser session.
  issueRefreshToken: async () => true,
  expiresWithSession: async () => false,
  rotateRefreshToken: true,
  pkce: { required: () => false },
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  interactions: { url: (_ctx, interaction) => `/test/interaction/${interaction.uid}` },
  // Consent is given to whatever is asked.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    if (ctx.oidc.params.scope) grant.addOIDCScope(ctx.oidc.params.scope);
    await grant.save();
    return grant;
  },
});

const log = { token_requests: [], counts: {}, grants_revoked: 0 };
provider.on('grant.revoked', () => {
  log.grants_revoked += 1;
});
provider.on('server_error', (_ctx, error) => process.stderr.write(`${error.stack}\n`));

let inFlight = 0;
provider.use(async (ctx, next) => {
  if (ctx.path === AUTHORIZATION && typeof ctx.query.scope === 'string') {
    // Zoho separates scopes by commas, the standard by spaces.
    ctx.query = { ...ctx.query, scope: ctx.query.scope.split(/[,\s]+/).join(' ') };
  }
  if (ctx.path !== TOKEN) return next();
  inFlight += 1;
  const seen = inFlight;
  try {
    if (tokenDelay > 0) await new Promise((resolve) => setTimeout(resolve, tokenDelay));
    await next();
  } finally {
    inFlight -= 1;
    const grantType = ctx.oidc?.params?.grant_type ?? 'none';
    const outcome = ctx.status === 200 ? 'success' : (ctx.body?.error ?? `http_${ctx.status}`);
    log.token_requests.push({ grant_type: grantType, outcome, in_flight: seen });
    const key = `${grantType} ${outcome}`;
    log.counts[key] = (log.counts[key] ?? 0) + 1;
  }
});

// The user's browser: follows redirects and keeps cookies until it is sent away from this server.
async function walk(start) {
  const cookies = new Map();
  let at = start;
  for (let hops = 0; hops < 10; hops += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const reply = await new Promise((resolve, reject) => {
      get(at, { headers: { cookie } }, resolve).on('error', reject);
    });
    const page = await text(reply);
    for (const line of reply.headers['set-cookie'] ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
    const { location } = reply.headers;
    if (!location) return { status: reply.statusCode, page };
    const target = new URL(location, at);
    if (target.origin !== url) {
      return {
        redirect: target.href,
        code: target.searchParams.get('code'),
        state: target.searchParams.get('state'),
      };
    }
    at = target.href;
  }
  return { status: 508, page: 'too many redirects' };
}

const oauth = provider.callback();
server.on('request', async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(`${JSON.stringify(body)}\n`);
  };
  try {
    const at = new URL(request.url, url);
    if (at.pathname === '/test/log') {
      answer(200, log);
    } else if (at.pathname === '/test/consent') {
      const result = await walk(`${url}${AUTHORIZATION}${at.search}`);
      answer(result.redirect ? 200 : 400, result);
    } else if (at.pathname.startsWith('/test/interaction/')) {
      await provider.interactionFinished(request, response, {
        login: { accountId: 'user-1' },
        consent: {},
      });
    } else {
      oauth(request, response);
    }
  } catch (error) {
    answer(500, { error: String(error) });
  }
});

const stop = () => {
  server.close();
  server.closeAllConnections();
  process.exit(0);
};
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
process.stdin.on('end', stop);
process.stdin.resume();

process.stdout.write(
  `${JSON.stringify({ url, client_id: client.client_id, client_secret: client.client_secret, redirect_uris: redirectUris })}\n`,
);
