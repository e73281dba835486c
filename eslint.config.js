import js from '@eslint/js';
import prettier from 'eslint-config-prettier';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

/**
 * The folders of src, from the bottom up. A folder imports only from rows below its own: so a domain (audit, flags, schedules)
 * knows neither the processes that serve it nor GraphQL, audit knows neither flags nor schedules, flags not schedules, and schedules not plans.
 */
const LAYERS = [
  ['lib'],
  ['config', 'jobs'],
  ['auth'],
  ['postgres'],
  ['http'],
  ['environments'],
  ['audit', 'flags'],
  ['schedules'],
  ['plans'],
  ['console', 'graphql', 'metrics'],
  ['api', 'worker'],
  ['cli'],
];

/** One kind of schema: those of zod itself have other methods, and bring all of zod to a front end. */
const ZOD = {
  regex: '^zod$',
  message: 'Import z from src/lib/zod.ts: schemas are made of zod/mini.',
};

const layerRules = LAYERS.flatMap((layer, i) =>
  layer.map((folder) => {
    const above = LAYERS.slice(i)
      .flat()
      .filter((other) => other !== folder);
    // The sinks' settings stand with the sinks, which themselves import only lib and config's schemas when they are loaded.
    const except = folder === 'config' ? '(?!audit/delivery/sinks/index\\.ts)' : '';
    const upwards = `^(\\.\\./)+${except}((${[...above, 'main'].join('|')})(/|\\.ts)|schemas\\.ts)`;
    const message = `src/${folder} imports only from folders below it: LAYERS in eslint.config.js.`;
    return {
      files: [`src/${folder}/**/*.ts`],
      rules: {
        'no-restricted-imports': ['error', { patterns: [{ regex: upwards, message }, ZOD] }],
        'no-restricted-syntax': [
          'error',
          {
            selector: `ImportExpression[source.value=/${upwards.replaceAll('/', '\\u002F')}/]`,
            message,
          },
        ],
      },
    };
  }),
);

export default defineConfig(
  globalIgnores([
    'node_modules',
    'schema',
    '.halyard',
    '.halyard-demo',
    'coverage',
    'console/dist',
    'console/src/data/graphql_schema.d.ts',
  ]),
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js', 'scripts/prepare.mjs'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      // An eighth of the time; erasableSyntaxOnly allows no enums.
      '@typescript-eslint/no-unsafe-enum-assignment': 'off',
      eqeqeq: ['error', 'always'],
      'no-console': 'error',
    },
  },
  {
    // process.env has one reader, so that every setting is validated and documented.
    files: ['src/**/*.ts', 'tasks/**/*.ts'],
    ignores: ['src/config/config.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        {
          object: 'process',
          property: 'env',
          message: 'Only src/config/config.ts reads process.env.',
        },
      ],
    },
  },
  ...layerRules,
  {
    files: ['eslint.config.js', 'scripts/prepare.mjs'],
    extends: [tseslint.configs.disableTypeChecked],
  },
  prettier,
);
