import type { ComponentChildren } from 'preact';
import { FlagName } from './flag_name.tsx';

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
  /** Whether all are of one environment, which stands elsewhere. */
  readonly isShort: boolean;
}

/** What a plan does, flag by flag. */
export const WhatTable = ({ label, lines, isShort }: Props) => (
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
            <FlagName {...{ flagKey, environment, isShort }} />
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
