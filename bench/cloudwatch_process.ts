import { makeCloudWatchServer } from '../test/support/cloudwatch_server.ts';

const server = await makeCloudWatchServer();
process.once('disconnect', () => void server.close().then(() => process.exit()));
process.send?.(server.url);
