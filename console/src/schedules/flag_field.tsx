import { useEffect, useId, useState } from 'preact/hooks';
import { environments } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { Choice, Field } from '../parts/field.tsx';
import { FLAG_KEYS } from './documents.ts';

interface Props {
  readonly environment: string;
  readonly flagKey: string;
  readonly onChange: (some: { environment?: string; flagKey?: string }) => void;
  readonly problem: string | null;
}

/** How long one types before the server is asked. */
const PAUSE_MS = 200;

/** The environment and the flag of a change; keys are completed by the server's. */
export function FlagField({ environment, flagKey, onChange, problem }: Props) {
  const id = useId();
  const [text, setText] = useState(flagKey);
  useEffect(() => {
    const timer = setTimeout(() => setText(flagKey.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [flagKey]);
  const found = useResource(FLAG_KEYS, { environment, text });
  return (
    <>
      {environments.value.length > 1 && (
        <Choice
          {...{ label: 'Environment', value: environment }}
          choices={environments.value.map((name) => [name, name] as const)}
          onChoose={(name) => onChange({ environment: name })}
        />
      )}
      <Field
        {...{ label: 'Flag', value: flagKey, list: id, placeholder: 'Key, or part of it', problem }}
        onText={(key) => onChange({ flagKey: key })}
      />
      <datalist id={id}>
        {found.data.value?.featureFlags?.nodes.map((flag) => (
          <option key={flag.id} value={flag.flagKey} />
        ))}
      </datalist>
    </>
  );
}
