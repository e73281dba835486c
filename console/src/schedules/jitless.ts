import { z } from 'zod';

// Before any schema is made: Zod tries `eval` otherwise, which the page's Content-Security-Policy forbids and reports.
z.config({ jitless: true });
