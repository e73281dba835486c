import { useId, useState } from 'preact/hooks';
import { environments } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { Choice, Field } from '../parts/field.tsx';
import { useLater } from '../parts/use_later.ts';
import { FLAG_KEYS } from './documents.ts';

interface Props {
  readonly environment: string;
  readonly flagKey: string;
  readonly onChange: (some: { environment?: string; flagKey?: string }) => void;
  readonly problem: string | null;
}

/** The environment and the flag of a change; keys are completed by the server's. */
export function FlagField({ environment, flagKey, onChange, problem }: Props) {
  const id = useId();
  const text = useLater(flagKey.trim());
  const [isLeft, setLeft] = useState(flagKey !== '');
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
        {...{ label: 'Flag', value: flagKey, list: id, placeholder: 'Key, or part of it' }}
        problem={isLeft ? problem : null}
        onText={(key) => {
          setLeft(false);
          onChange({ flagKey: key });
        }}
        onLeave={() => setLeft(true)}
      />
      <datalist id={id}>
        {found.data.value?.featureFlags?.nodes.map((flag) => (
          <option key={flag.id} value={flag.flagKey} />
        ))}
      </datalist>
    </>
  );
}
