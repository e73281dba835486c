import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import express, { type Router } from 'express';
import type pg from 'pg';
import type { Authentication } from '../auth/auth.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../lib/log.ts';
import { makeBuild, NO_BUILD } from './build.ts';
import { makeCodes } from './codes.ts';
import { makeOidc } from './oidc.ts';
import { makePages } from './pages.ts';
import { makeSessionRoutes } from './routes.ts';
import { makeSecrets } from './secrets.ts';
import { makeSessions } from './sessions.ts';
import { makeSessionTokens, makeSignIn } from './sign_in.ts';
import { makeSite } from './site.ts';

const CHECKOUT = new URL('../../', import.meta.url);
/** What scripts/prepare.mjs makes. */
const BUILT = fileURLToPath(new URL('console/dist', CHECKOUT));

interface ConsoleOptions {
  readonly config: Config;
  /** The API's. */
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** The built files; by default those of this checkout, which development builds again when they are stale. */
  readonly folder?: string | undefined;
}

/** The server's part of the console: its files, and sessions in place of tokens. */
export function makeConsole({ config, pool, log: apiLog, folder = BUILT }: ConsoleOptions) {
  const log = apiLog.child({ part: 'console' });
  const { nodeEnv, console: settings } = config;
  const isProduction = nodeEnv === 'production';
  const build = nodeEnv === 'development' && folder === BUILT ? makeBuild(log) : NO_BUILD;
  const site = makeSite(settings.url);
  const secrets = makeSecrets(config);
  const sessions = makeSessions(pool, secrets);
  const codes = makeCodes();

  return {
    /** For makeAuthentication. */
    tokens: makeSessionTokens({ sessions, site }),
    /** All that is under /console, and the way there from /. */
    makeRouter(authentication: Authentication): Router {
      const signIn = makeSignIn({ sessions, site, authentication });
      const oidc =
        settings.oidc === null
          ? null
          : makeOidc({
              settings: settings.oidc,
              audience: config.jwt.audience,
              ...{ site, secrets, signIn, log },
            });
      const router = express.Router();
      const options = { site, signIn, codes, oidc, version: readVersion(), log };
      router.use(makeSessionRoutes({ ...options, takesTokens: !isProduction }));
      router.use(makePages(folder, build));
      return router;
    },
    /** The path of a link that signs in with this token, once, within 10 minutes. */
    enterPath: (token: string) => `/console/enter?code=${codes.issue(token)}`,
    /** Begins to build stale files, where that is done. */
    begin: () => build.begin(),
    close: () => build.close(),
  };
}

function readVersion(): string {
  const text = readFileSync(new URL('package.json', CHECKOUT), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
