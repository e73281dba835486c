import { useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { graphql } from '../data/documents.ts';
import { chosenEnvironment, environments, me } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { param, setParams } from '../router.ts';
import { flagPart, suggestionsFor, wordAt, type Suggestion } from './completion.ts';

const FLAG_KEYS = graphql(`
  query TrailFlagKeys($environment: String!, $text: String!) {
    featureFlags(condition: { environment: $environment, flagKeyContains: $text }, first: 6) {
      nodes {
        flagKey
      }
    }
  }
`);

/** A pause in typing after which the list is asked for. */
const PAUSE_MS = 250;
const ADDED = ['flag:', 'by:', 'type:', 'since:', 'request:', 'level:'] as const;

interface Props {
  readonly field: RefObject<HTMLInputElement | null>;
  /** E-mail addresses that were seen. */
  readonly people: readonly string[];
}

/** The one search field: filters and words, completed while one types; all of it is the address's `q`. */
export function SearchField({ field, people }: Props) {
  const asked = param('q');
  const [text, setText] = useState(asked);
  const [cursor, setCursor] = useState(0);
  const [chosen, setChosen] = useState(-1);
  const isOpen = useSignal(false);
  // Back, or a link that sets the filter.
  useEffect(() => setText(asked), [asked]);
  useEffect(() => {
    if (text === asked) return undefined;
    const timer = setTimeout(() => setParams({ q: text }), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const { word, from } = wordAt(text, cursor);
  const part = isOpen.value ? flagPart(word) : null;
  const flags = useResource(
    FLAG_KEYS,
    part === null || part.length < 2 ? null : { environment: chosenEnvironment.value, text: part },
  );
  const flagKeys = flags.data.value?.featureFlags?.nodes.map(({ flagKey }) => flagKey) ?? [];
  const own = me.value?.email ?? null;
  const known = {
    ...{ flagKeys: part === null ? [] : flagKeys, environments: environments.value },
    people: [...new Set([...(own === null ? [] : [own]), ...people])],
  };
  const suggestions = isOpen.value ? suggestionsFor(word, known) : [];
  const put = (whole: string, at: number): void => {
    setText(whole);
    setChosen(-1);
    requestAnimationFrame(() => {
      field.current?.focus();
      field.current?.setSelectionRange(at, at);
      setCursor(at);
    });
  };
  const take = (suggestion: Suggestion): void => {
    const ends = suggestion.text.endsWith(':') ? suggestion.text : `${suggestion.text} `;
    put(text.slice(0, from) + ends + text.slice(cursor).trimStart(), from + ends.length);
    isOpen.value = suggestion.text.endsWith(':');
  };
  const add = (key: string): void => {
    const whole = text.trim() === '' ? key : `${text.trim()} ${key}`;
    isOpen.value = true;
    put(whole, whole.length);
  };
  const onKey = (event: KeyboardEvent): void => {
    const { length } = suggestions;
    if (event.key === 'Escape' && length > 0) isOpen.value = false;
    else if (event.key === 'Escape') field.current?.blur();
    else if (event.key === 'ArrowDown' && length > 0) setChosen((chosen + 1) % length);
    else if (event.key === 'ArrowUp' && length > 0) setChosen((chosen <= 0 ? length : chosen) - 1);
    else if ((event.key === 'Enter' || event.key === 'Tab') && suggestions[chosen] !== undefined)
      take(suggestions[chosen]);
    else if (event.key === 'Enter') {
      isOpen.value = false;
      setParams({ q: text });
    } else return;
    event.preventDefault();
  };
  const hasList = suggestions.length > 0;
  return (
    <div class="bar">
      <div class="combo">
        <input
          {...{ ref: field, class: 'input mono', type: 'text', role: 'combobox', value: text }}
          {...{
            'aria-label': 'Search the trail',
            'aria-autocomplete': 'list',
            autoComplete: 'off',
          }}
          {...{ 'aria-expanded': hasList, 'aria-controls': 'trail-suggestions', spellcheck: false }}
          autoCapitalize="off"
          {...(hasList && chosen >= 0 ? { 'aria-activedescendant': `trail-s${chosen}` } : {})}
          placeholder="checkout type:flag_schedule.* since:-24h"
          onInput={({ currentTarget }) => {
            isOpen.value = true;
            setText(currentTarget.value);
            setCursor(currentTarget.selectionStart ?? currentTarget.value.length);
            setChosen(-1);
          }}
          onKeyDown={onKey}
          onBlur={() => (isOpen.value = false)}
        />
        <ul id="trail-suggestions" role="listbox" aria-label="Suggestions" hidden={!hasList}>
          {suggestions.map((suggestion, i) => (
            <li
              {...{ key: suggestion.text, id: `trail-s${i}`, role: 'option' }}
              aria-selected={i === chosen}
              onPointerDown={(event) => {
                event.preventDefault();
                take(suggestion);
              }}
            >
              <span class="mono">{suggestion.text}</span>
              <span class="small muted">{suggestion.note}</span>
            </li>
          ))}
        </ul>
      </div>
      <span class="row try" role="group" aria-label="Add a filter">
        <span class="muted">Add</span>
        {ADDED.map((key) => (
          <button key={key} type="button" class="link" onClick={() => add(key)}>
            {key}
          </button>
        ))}
      </span>
    </div>
  );
}
