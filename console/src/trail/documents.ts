import type { ResultOf } from 'gql.tada';
import { graphql } from '../data/documents.ts';

/** A page of the trail, newest first. */
export const EVENTS = graphql(`
  query TrailEvents($condition: AuditEventCondition, $first: Int!, $after: Cursor) {
    auditEvents(condition: $condition, first: $first, after: $after, orderBy: [OCCURRED_AT_DESC]) {
      nodes {
        id
        seq
        occurredAt
        eventType
        level
        environment
        flagKey
        scheduleId
        requestId
        clientRequestId
        actorKind
        adminEmail
        adminUserId
        databaseUser
        metadata
        seal {
          number
          anchored
          problem
        }
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
`);

type Page = NonNullable<ResultOf<typeof EVENTS>['auditEvents']>;
export type TrailEvent = Page['nodes'][number];

/** One event as a whole. */
export const EVENT = graphql(`
  query TrailEvent($id: UUID!) {
    auditEvents(condition: { id: $id }, first: 1) {
      nodes {
        id
        seq
        occurredAt
        eventType
        level
        environment
        flagKey
        scheduleId
        requestId
        clientRequestId
        actorKind
        adminEmail
        adminUserId
        databaseUser
        applicationName
        reconciled
        metadata
        payload
        seal {
          number
          head
          sealedAt
          anchored
          problem
        }
      }
    }
  }
`);

type OnePage = NonNullable<ResultOf<typeof EVENT>['auditEvents']>;
export type WholeEvent = OnePage['nodes'][number];

/** What belongs to one cause, oldest first. */
export const CHAIN = graphql(`
  query TrailChain($condition: AuditEventCondition!) {
    auditEvents(condition: $condition, first: 50, orderBy: [OCCURRED_AT_ASC]) {
      nodes {
        id
        seq
        occurredAt
        eventType
        level
        environment
        flagKey
        scheduleId
        requestId
        clientRequestId
        actorKind
        adminEmail
        adminUserId
        databaseUser
        metadata
        seal {
          number
          anchored
          problem
        }
      }
    }
  }
`);

/** How far the trail is sealed, and what is known to be wrong. */
export const TRAIL_STATUS = graphql(`
  query TrailStatus {
    trailStatus {
      lastSeq
      sealedSeq
      sealNo
      sealedAt
      anchoredSealNo
      anchoredAt
      problems
    }
  }
`);

/** What an id in the search is the id of. */
export const MEANING = graphql(`
  query TrailMeaning($id: UUID!, $text: String!) {
    event: auditEvents(condition: { id: $id }, first: 1) {
      nodes {
        id
      }
    }
    schedule: auditEvents(condition: { scheduleId: $id }, first: 1) {
      nodes {
        id
      }
    }
    request: auditEvents(condition: { requestId: $text }, first: 1) {
      nodes {
        id
      }
    }
  }
`);

/** Whether a name in the search is the id of an admin. */
export const PERSON_OF_TRAIL = graphql(`
  query TrailPerson($id: String!) {
    auditEvents(condition: { adminUserId: $id }, first: 1) {
      nodes {
        id
      }
    }
  }
`);

export const EVENTS_ADDED = graphql(`
  subscription TrailAdded {
    auditEventsAdded {
      truncated
      events {
        id
      }
    }
  }
`);
