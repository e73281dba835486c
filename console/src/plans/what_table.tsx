import type { ComponentChildren } from 'preact';
import { EnvironmentTag } from '../parts/environment.tsx';
import { link } from '../router.ts';

/** A flag of a plan: what changes of it, and what is to be said of that. */
export interface Line {
  readonly flagKey: string;
  readonly environment: string;
  readonly change: ComponentChildren;
  readonly note: ComponentChildren;
  readonly tone: '' | 'bad' | 'bad warn';
}

interface Props {
  readonly label: string;
  readonly lines: readonly Line[];
}

/** What a plan does, flag by flag. */
export const WhatTable = ({ label, lines }: Props) => (
  <table class="rows pl" role="table" aria-label={label}>
    <thead role="rowgroup">
      <tr role="row">
        {['Flag', 'Change', 'Note'].map((name) => (
          <th key={name} role="columnheader" scope="col">
            {name}
          </th>
        ))}
      </tr>
    </thead>
    <tbody role="rowgroup">
      {lines.map(({ flagKey, environment, change, note, tone }) => (
        <tr key={`${environment} ${flagKey}`} role="row" class={tone}>
          <th role="rowheader" scope="row">
            <a
              href={link(
                `/flags/${encodeURIComponent(environment)}/${encodeURIComponent(flagKey)}`,
              )}
            >
              {flagKey}
            </a>{' '}
            <EnvironmentTag name={environment} />
          </th>
          <td role="cell" class="mono">
            {change}
          </td>
          <td role="cell">{note}</td>
        </tr>
      ))}
    </tbody>
  </table>
);
