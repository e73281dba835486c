import { requirePackages } from './packages.ts';

/** Says what the cluster is made of, or what is missing for it. */
export default function globalSetup(): void {
  process.stdout.write(`${requirePackages().join('\n')}\n`);
}
