import { makeCloudWatchServer } from '../../test/support/cloudwatch_server.ts';
import { serve } from './serve.ts';

/** The tests' CloudWatch Logs. Each task is answered with its address. */
serve(async () => {
  const { url } = await makeCloudWatchServer();
  return () => Promise.resolve(url);
});
