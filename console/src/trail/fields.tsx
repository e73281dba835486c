import { instantText } from '../time/format.ts';
import { now } from '../data/clock.ts';
import { zone } from '../settings.ts';
import type { WholeEvent } from './documents.ts';
import { detail, isRecord } from './event_text.ts';

/** In this order. */
const STATE = ['enabled', 'rolloutPercentage'];

const NAMES: Readonly<Record<string, string>> = {
  rolloutPercentage: 'rollout',
  scheduledAt: 'for',
  errorMessage: 'error',
  createdBy: 'created by',
};

/** A value of the details as people read it. */
function valueText(name: string, value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (name === 'enabled') return value === true ? 'on' : 'off';
  if (name === 'rolloutPercentage' && typeof value === 'number') return `${value}%`;
  if (typeof value === 'string')
    return name.endsWith('At') && !Number.isNaN(Date.parse(value))
      ? instantText(Date.parse(value), zone.value, now.value)
      : value;
  return JSON.stringify(value);
}

/** Before and after, field by field: struck and inserted, so that it reads without colour. */
export function Fields({ event }: { readonly event: WholeEvent }) {
  const before = detail(event, 'before');
  const after = detail(event, 'after');
  const was = isRecord(before) ? before : null;
  const is = isRecord(after) ? after : null;
  // A setting's value stands there by itself.
  if (was === null && is === null) {
    if (before === null && after === null) return null;
    return (
      <div class="diff" role="group" aria-label="Before and after">
        <span class="k">value</span>
        <span>
          <del>{valueText('', before)}</del> → <ins>{valueText('', after)}</ins>
        </span>
      </div>
    );
  }
  // What stays the same says something of a flag's state alone.
  const names = [
    ...new Set([...STATE, ...Object.keys(was ?? {}), ...Object.keys(is ?? {})]),
  ].filter(
    (name) =>
      (name in (was ?? {}) || name in (is ?? {})) &&
      (STATE.includes(name) || valueText(name, was?.[name]) !== valueText(name, is?.[name])),
  );
  if (names.length === 0) return null;
  return (
    <div class="diff" role="group" aria-label="Before and after">
      {names.map((name) => {
        const from = was === null ? null : valueText(name, was[name]);
        const to = is === null ? null : valueText(name, is[name]);
        return [
          <span key={`${name} name`} class="k">
            {NAMES[name] ?? name}
          </span>,
          <span key={name}>
            {from === to ? (
              <>
                {to} <span class="muted">(same)</span>
              </>
            ) : (
              <>
                {from !== null && <del>{from}</del>}
                {from !== null && ' → '}
                {to === null ? 'gone' : <ins>{to}</ins>}
              </>
            )}
          </span>,
        ];
      })}
    </div>
  );
}
