import { z } from '../lib/zod.ts';

/**
 * A setting that a function reads from its text.
 *
 * @param parse gives its value, or what the text should be
 */
export function read<T>(parse: (text: string) => { readonly value: T } | string) {
  return z.pipe(
    z.string(),
    z.transform((input: string, { issues }): T => {
      const result = parse(input);
      if (typeof result !== 'string') return result.value;
      issues.push({ code: 'custom', input, message: result });
      return z.NEVER;
    }),
  );
}
