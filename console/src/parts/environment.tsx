/** Production is filled, others are outlined: a fill and no hue. */
export const EnvironmentTag = ({ name }: { readonly name: string }) => (
  <span class={`env ${name === 'production' ? 'production' : 'other'}`}>{name}</span>
);
