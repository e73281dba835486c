import { CopyButton } from './copy.tsx';

interface Props {
  readonly title: string;
  readonly method?: string;
  readonly path: string;
  readonly body: unknown;
  readonly note?: string;
}

/** A request of the REST API as a command to paste. Quotes of the shell are closed around an apostrophe. */
export function curlOf({
  method = 'POST',
  path,
  body,
}: Pick<Props, 'method' | 'path' | 'body'>): string {
  const json = JSON.stringify(body, null, 1)
    .replaceAll(/\n\s*/g, ' ')
    .replaceAll("'", String.raw`'\''`);
  const verb = method === 'POST' ? '' : ` -X ${method}`;
  return [
    `curl${verb} ${location.origin}${path} \\`,
    `  -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' \\`,
    `  -d '${json}'`,
  ].join('\n');
}

export const Command = ({ title, note, ...request }: Props) => (
  <div class="stack curl">
    <div class="row between">
      <h3>{title}</h3>
      <CopyButton text={curlOf(request)}>Copy</CopyButton>
    </div>
    <pre {...{ tabIndex: 0, class: 'payload plain', 'aria-label': 'Command' }}>
      {curlOf(request)}
    </pre>
    {note !== undefined && <span class="small muted">{note}</span>}
  </div>
);
