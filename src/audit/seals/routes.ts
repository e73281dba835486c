import type { Router } from 'express';
import express from 'express';
import { z } from '../../lib/zod.ts';
import type { QueryAsCaller } from '../../http/caller.ts';
import { onlyMethods, parse } from '../../http/problems.ts';
import { ProblemError } from '../../lib/errors.ts';
import { proofText } from './proof.ts';
import { PROVE, readProof } from './prove.ts';

const pathSchema = z.strictObject({ id: z.guid() });

/** /audit/events/:id/proof: the proof that an event is in its seal, for admins and auditors without limits. */
export function makeProofRoutes(query: QueryAsCaller): Router {
  const router = express.Router();
  router
    .route('/audit/events/:id/proof')
    .get(async (request, response) => {
      const { id } = parse(pathSchema, request.params);
      const proof = await readProof(() => query(request, PROVE, [id], { action: 'read_trail' }));
      if (proof === null)
        throw new ProblemError(
          'event_not_found',
          'There is no sealed event with this id. A new event is sealed within a second, while a worker runs.',
        );
      response
        .type('json')
        .set('Content-Disposition', `attachment; filename="halyard-proof-${proof.seq}.json"`)
        .send(proofText(proof));
    })
    .all(onlyMethods('GET'));
  return router;
}
