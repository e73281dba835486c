import { readdirSync, readFileSync } from 'node:fs';
import { CommanderError, type Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { makeProgram } from '../../src/cli/program.ts';

/** What the parser says about arguments. A command that they would run is an error here: none may be reached. */
async function parse(...args: string[]) {
  let out = '';
  let err = '';
  const program = makeProgram({
    writeOut: (text) => (out += text),
    writeErr: (text) => (err += text),
  });
  const reached: string[] = [];
  for (const command of commandsOf(program))
    if (command.commands.length === 0)
      command.action(() => {
        reached.push(command.name());
      });
  const error: unknown = await program.parseAsync(args, { from: 'user' }).then(
    () => null,
    (reason: unknown) => reason,
  );
  const code = error instanceof CommanderError ? error.exitCode : null;
  return { out, err, reached, failed: code !== null && code !== 0, code };
}

function commandsOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap(commandsOf)];
}

/** The words that name a command on the command line. */
function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}

const FOLDER = new URL('../../docs/', import.meta.url);
const read = (page: string) => readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8');

const ID = '00000000-0000-4000-8000-000000000000';

const COMMANDS = commandsOf(makeProgram()).map((command) => ({
  name: command.name(),
  path: pathOf(command),
  usage: `Usage: ${['npm run halyard --', ...pathOf(command)].join(' ')}`,
  isGroup: command.commands.length > 0,
  // What it can't do without: an option that is a word, an argument that is an id.
  needs: [
    ...command.options.flatMap(({ mandatory, long, argChoices }) =>
      mandatory ? [long ?? '', argChoices?.[0] ?? 'admin'] : [],
    ),
    ...command.registeredArguments.map(() => ID),
  ],
}));

describe.for(COMMANDS)('halyard $path', ({ path, usage, needs }) => {
  test.for(['--help', '-h'])('%s prints the usage and runs nothing', async (flag) => {
    const { out, err, reached, code } = await parse(...path, flag);
    expect(out).toContain(usage);
    expect({ err, reached, code }).toEqual({ err: '', reached: [], code: 0 });
  });

  test.for([
    ['an unknown option', '--frobnicate'],
    ['an argument too many, or an unknown command', 'frobnicate'],
  ])('refuses %s with the usage', async ([, more = '']) => {
    const { out, err, reached, failed } = await parse(...path, ...needs, more);
    expect(err).toContain('frobnicate');
    expect(err).toContain(usage);
    expect({ out, reached, failed }).toEqual({ out: '', reached: [], failed: true });
  });
});

test.for(COMMANDS.filter(({ isGroup }) => isGroup))(
  'halyard $path refuses an unknown command also before --help',
  async ({ path, usage }) => {
    const { out, err, failed } = await parse(...path, 'frobnicate', '--help');
    expect(err).toContain("unknown command 'frobnicate'");
    expect(err).toContain(usage);
    expect({ out, failed }).toEqual({ out: '', failed: true });
  },
);

const VALUED = commandsOf(makeProgram()).flatMap((command) =>
  command.options
    .filter(({ required }) => required)
    .map(({ long }) => ({ path: pathOf(command), option: long ?? '' })),
);

test.for(VALUED)(
  'halyard $path $option takes no option for its value',
  async ({ path, option }) => {
    const { err, reached, failed } = await parse(...path, option, '--environments=staging');
    expect(err).toContain(option);
    expect({ reached, failed }).toEqual({ reached: [], failed: true });
  },
);

test.for(COMMANDS.filter(({ isGroup, needs }) => isGroup || needs.length > 0))(
  'halyard $path refuses to run without what it needs',
  async ({ path, usage }) => {
    const { out, err, reached, failed } = await parse(...path);
    expect(err).toContain(usage);
    expect({ out, reached, failed }).toEqual({ out: '', reached: [], failed: true });
  },
);

test.for(COMMANDS.filter(({ isGroup }) => !isGroup))(
  'halyard $path runs with what it needs',
  async ({ name, path, needs }) => {
    expect((await parse(...path, ...needs)).reached).toEqual([name]);
  },
);

test.for<[string, string]>([
  ['token --role king', 'Allowed choices are admin, auditor, viewer.'],
  ['token --role', 'argument missing'],
  ['token --role admin --environments staging,', 'Give names separated by commas'],
  ['token --role admin --environments=', 'Give names separated by commas'],
  ['audit verify --from x', 'Give the number of an event'],
  ['audit verify --to 0', 'Give the number of an event'],
  ['audit verify --anchors=', 'Give a name'],
  ['audit prove x', 'Give a UUID'],
  [`audit prove ${ID} --out=`, 'Give a name'],
  ['audit export --format xml', 'Allowed choices are ndjson, csv.'],
  ['audit export --out=', 'Give a name'],
  ['plan list --status done', 'Allowed choices are active, paused, completed, cancelled.'],
  ['plan list --limit 0', 'Give a whole number from 1 to 10000.'],
  ['plan show x', 'Give a UUID'],
  ['resume production --missed ignore --reason x', 'Allowed choices are apply, skip.'],
  ['resume production --missed skip --except x --reason x', 'Give a UUID'],
  ['stop production', '--reason'],
  ['constructor', "unknown command 'constructor'"],
  ['help', "unknown command 'help'"],
  ['audit help', "unknown command 'help'"],
  ['audit constructor', "unknown command 'constructor'"],
])('%s is refused', async ([line, sentence]) => {
  const { err, reached, failed } = await parse(...line.split(' '));
  expect(err).toContain(sentence);
  expect({ reached, failed }).toEqual({ reached: [], failed: true });
});

test('the version is that of package.json', async () => {
  const { version } = JSON.parse(read('package.json')) as { version: string };
  expect(await parse('--version')).toMatchObject({ out: `${version}\n`, err: '', code: 0 });
});

test('the list of commands leaves out the one that only graphile-migrate calls', async () => {
  const { out } = await parse('--help');
  expect(out).toMatch(/^ {2}audit /m);
  expect(out).not.toContain('install-worker-schema');
});

test('the pages run each command whose output is read by something as npm run -s', () => {
  // npm writes two lines of its own to standard output otherwise.
  const data = /npm run halyard -- (worker|token|audit (export|prove))/;
  for (const page of ['README.md', ...readdirSync(FOLDER).map((name) => `docs/${name}`)])
    if (page.endsWith('.md')) expect([page, data.exec(read(page))?.[0]]).toEqual([page, undefined]);
  expect(read('docs/operations.md')).toContain('npm run -s halyard -- worker');
});
