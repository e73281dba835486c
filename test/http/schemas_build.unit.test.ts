import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'vite';
import { expect, onTestFinished, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

/** A front end as `npm install ../halyard` leaves it: the package is a link. */
async function makeFrontEnd(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-front-end-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, 'node_modules'));
  await symlink(root, join(folder, 'node_modules/halyard'));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  await writeFile(
    join(folder, 'main.ts'),
    `import { createScheduleSchema } from 'halyard/schemas';
     export const accepts = (body: unknown): boolean => createScheduleSchema.safeParse(body).success;\n`,
  );
  return folder;
}

test('a front end builds halyard/schemas with Vite and validates without Node', async () => {
  const folder = await makeFrontEnd();
  const lib = { entry: 'main.ts', formats: ['es' as const], fileName: 'main' };
  await build({ root: folder, configFile: false, logLevel: 'silent', build: { lib } });
  const built = (await import(pathToFileURL(join(folder, 'dist/main.js')).href)) as {
    accepts: (body: unknown) => boolean;
  };
  const updates = { enabled: true };
  expect(built.accepts({ scheduled_at: '2030-01-01T09:00:00Z', updates })).toBe(true);
  expect(built.accepts({ scheduled_at: 'tomorrow', updates })).toBe(false);
});
