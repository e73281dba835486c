import { ExplainedError } from '../lib/explained.ts';

/** The configuration can't work; `problems` holds one sentence for each mistake, without any secret in it. */
export class ConfigError extends ExplainedError {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      `Halyard can't start with this configuration:\n${problems.map((p) => `- ${p}`).join('\n')}`,
    );
    this.problems = problems;
  }
}
