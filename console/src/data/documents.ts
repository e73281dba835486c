import type { initGraphQLTada, TadaDocumentNode } from 'gql.tada';
import type { introspection } from './graphql_schema.d.ts';

type Tada = ReturnType<
  typeof initGraphQLTada<{
    introspection: introspection;
    scalars: { Datetime: string; UUID: string; Cursor: string; BigInt: string; JSON: unknown };
  }>
>;

/**
 * A document of the GraphQL API, with the types of its result and variables from schema/halyard.graphql. The text is sent as it is:
 * the page holds no parser of GraphQL, so it has no fragments.
 */
export const graphql = ((text: string) => text) as unknown as Tada;

/** What is sent. */
export const sourceOf = (document: TadaDocumentNode<unknown, never>): string =>
  document as unknown as string;
