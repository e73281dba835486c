/** Keys by where they work. */
const KEYS: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  [
    'Everywhere',
    [
      ['g t', 'Timeline'],
      ['g n', 'Tonight'],
      ['g f', 'Flags'],
      ['g p', 'Plans'],
      ['g l', 'Trail'],
      ['g s', 'State at'],
      ['/', 'to the filter or the search'],
      ['n', 'schedule a change; on Plans a new plan'],
      ['Ctrl Enter', 'send the form of a plan'],
      ['d', 'dense or comfortable rows'],
      ['?', 'this page'],
      ['Esc', 'close what is open'],
    ],
  ],
  [
    'Timeline',
    [
      ['[ ]', 'earlier, later'],
      ['+ −', 'closer, wider'],
      ['t', 'now'],
      ['← →', 'from mark to mark'],
      ['↑ ↓', 'from flag to flag'],
      ['Enter', 'choose the mark'],
    ],
  ],
  [
    'Flags and Trail',
    [
      ['j k', 'next, previous row'],
      ['Enter', 'open'],
      ['c', 'copy the link of an event'],
      ['Space', 'hold new events, or let them go on'],
    ],
  ],
  [
    'State at',
    [
      ['[ ]', 'the change before, the next one'],
      ['t', 'now'],
      ['d', 'to the date'],
    ],
  ],
  [
    'Tonight',
    [
      ['c', 'copy the hand-over'],
      ['e', 'choose until when'],
    ],
  ],
];

export const HelpPage = () => (
  <div class="stack">
    <h1>Help</h1>
    <div class="helps">
      {KEYS.map(([where, keys]) => (
        <section key={where} class="card" aria-label={where}>
          <header>
            <h2>{where}</h2>
          </header>
          <dl class="body dl">
            {keys.map(([key, what]) => (
              <div key={key} class="pair">
                <dt>
                  <span class="kbd">{key}</span>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
      <section class="card" aria-label="Words">
        <header>
          <h2>Words</h2>
        </header>
        <dl class="body stack">
          <div>
            <dt>
              <strong>Solid, dashed</strong>
            </dt>
            <dd>What was is solid. What will be, if nothing else happens, is dashed.</dd>
          </div>
          <div>
            <dt>
              <strong>Late</strong>
            </dt>
            <dd>The time between the instant that was asked for and the change in the database.</dd>
          </div>
          <div>
            <dt>
              <strong>Sealed</strong>
            </dt>
            <dd>
              The event is in the tree of a seal: it can’t be changed without notice as long as the
              seal is known outside.
            </dd>
          </div>
          <div>
            <dt>
              <strong>Anchored outside</strong>
            </dt>
            <dd>A copy outside of this database holds the seal, as in CloudWatch Logs.</dd>
          </div>
        </dl>
      </section>
    </div>
  </div>
);
