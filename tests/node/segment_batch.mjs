// Drives Segment's Node SDK, unmodified: a job as JSON on standard input, what the SDK reported as JSON on
// standard output.
//
//   {host, writeKey, calls: [{call: "track", message: {...}}]}
import { Analytics } from '@segment/analytics-node';

let input = '';
for await (const chunk of process.stdin) input += chunk;
const job = JSON.parse(input);

const errors = [];
let delivered = 0;
const analytics = new Analytics({ host: job.host, writeKey: job.writeKey, maxRetries: 5 });
analytics.on('error', (error) => errors.push(String(error.reason || error.code || error)));
for (const { call, message } of job.calls) {
  if (message.timestamp) message.timestamp = new Date(message.timestamp);
  analytics[call](message, (error) => {
    if (error) errors.push(String(error));
    else delivered += 1;
  });
}
await analytics.closeAndFlush({ timeout: 30000 });
process.stdout.write(JSON.stringify({ delivered, errors }));
