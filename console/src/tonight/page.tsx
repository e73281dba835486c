import { useRef } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { readsTrail } from '../data/person.ts';
import { refetchEach } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { CopyButton } from '../parts/copy.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link, param } from '../router.ts';
import { zone } from '../settings.ts';
import { isStopped } from '../stop/stops.ts';
import { instantText } from '../time/format.ts';
import { DAY } from '../time/zone.ts';
import { handOver } from './handover.ts';
import { Night } from './list.tsx';
import { NeedsSomeone } from './needs_someone.tsx';
import { IfItBreaks, Summary } from './summary.tsx';
import { endText, readUntil } from './until.ts';
import { UntilField } from './until_field.tsx';
import { useNight } from './use_night.ts';

export function TonightPage() {
  const asked = param('until');
  const chosen = readUntil(asked, zone.value, now.value);
  const end = chosen ?? readUntil('', zone.value, now.value) ?? now.value + DAY;
  // A span as +12h would move with each second.
  const until = Math.ceil(end / 60_000) * 60_000;
  const { found, error, isReady, names, items, failed, suspended, since, isCut, unknown } =
    useNight(until);
  const copy = useRef<HTMLDivElement>(null);
  useKeys({
    c: () => copy.current?.querySelector('button')?.click(),
    e: () => document.getElementById('until')?.focus(),
  });
  const lost = failed.map((one) => ({
    environment: one.environment,
    flagKey: one.flag?.flagKey ?? '',
    at: Date.parse(one.scheduledAt),
  }));
  const waiting = suspended
    .filter(({ suspendedFor }) => suspendedFor !== 'stop')
    .map((one) => ({
      environment: one.environment,
      flagKey: one.flag?.flagKey ?? '',
      at: Date.parse(one.scheduledAt),
    }));
  const paused = names.filter(isStopped);
  const text = handOver({
    ...{
      items,
      failed: lost,
      suspended: waiting,
      paused,
      environments: names,
      zone: zone.value,
      now: now.value,
      until,
    },
  });
  const isMany = names.length > 1;
  return (
    <>
      <div class="head">
        <h1>Tonight</h1>
        <span class="muted">
          Now to {instantText(until, zone.value, now.value, 'minute')}, {zone.value}
        </span>
        <span class="grow deskonly" />
        <UntilField isBad={chosen === null} />
        <div ref={copy} class="push">
          <CopyButton text={text} isPrimary>
            Copy hand-over
          </CopyButton>
        </div>
      </div>
      <div class="stack">
        {chosen === null && (
          <Note tone="quiet">
            <span id="until-bad">
              No end that comes within 400 days: “{asked}”. Write 08:00, tomorrow 12:00 or +12h.
              Shown is until the morning.
            </span>
          </Note>
        )}
        <Failure error={error} refetch={() => refetchEach(found)} />
        <Summary items={items} failed={lost} since={since} />
      </div>
      <div class="cols tonight">
        <div class="stack">
          <NeedsSomeone {...{ failed, suspended, isMany }} />
          <section class="card" aria-labelledby="order">
            <header class="between">
              <h2 id="order">In order</h2>
              <span class="small muted">{names.join(', ')}</span>
            </header>
            {!isReady && error.value === null && <Waiting />}
            {isReady && items.length === 0 && (
              <p class="body">
                Nothing is scheduled until {endText(until, zone.value, now.value)}.{' '}
                <a href={link('/timeline')}>Timeline</a>
              </p>
            )}
            <Night items={items} isMany={isMany} />
            {(isCut || (unknown && readsTrail.value)) && (
              <p class="more muted">
                {isCut && 'Only the first 1,000 changes are here. '}
                {unknown && 'Who asked, and why, is shown of the first 100.'}
              </p>
            )}
          </section>
        </div>
        <div class="stack">
          <IfItBreaks
            href={link('/flags', { q: 'is:on' })}
            end={link('/state', { at: new Date(until).toISOString() })}
          />
          <section class="card" aria-labelledby="as-text">
            <header>
              <h2 id="as-text">As text</h2>
            </header>
            <pre {...{ tabIndex: 0, class: 'payload plain', 'aria-labelledby': 'as-text' }}>
              {text}
            </pre>
          </section>
        </div>
      </div>
    </>
  );
}
