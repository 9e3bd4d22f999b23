// Drives RudderStack's Node SDK, unmodified: a job as JSON on standard input, what the SDK reported as JSON on
// standard output.
//
//   {host, writeKey, calls: [{call: "track", message: {...}}]}
import Analytics from '@rudderstack/rudder-sdk-node';

let input = '';
for await (const chunk of process.stdin) input += chunk;
const job = JSON.parse(input);

const errors = [];
let delivered = 0;
const analytics = new Analytics(job.writeKey, { dataPlaneUrl: job.host, logLevel: 'none', flushInterval: 100 });
const calls = job.calls.map(({ call, message }) => new Promise((resolve) => {
  if (message.originalTimestamp) message.originalTimestamp = new Date(message.originalTimestamp);
  analytics[call](message, (error) => {
    if (error) errors.push(String(error));
    else delivered += 1;
    resolve();
  });
}));
await Promise.all(calls);
process.stdout.write(JSON.stringify({ delivered, errors }));
process.exit(0);
