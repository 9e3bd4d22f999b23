// Drives PostHog's Node SDK, unmodified: a job as JSON on standard input, what came of it as JSON on standard output.
//
//   {host, key, options, calls: [[method, argument, ...]], pause}
//
// An argument {"Error": message} becomes an error. `reached` are the hosts that were connected to, as host:port.
import net from 'node:net';
import { PostHog } from 'posthog-node';

const reached = new Set();
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const { host, port } = [given[0]].flat()[0] ?? {};
  reached.add(`${host}:${port}`);
  return connect.apply(this, given);
};

let input = '';
for await (const chunk of process.stdin) input += chunk;
const job = JSON.parse(input);

const errors = [];
const results = [];
const client = new PostHog(job.key, { host: job.host, flushAt: 3, flushInterval: 100, fetchRetryDelay: 300, ...job.options });
client.on('error', (error) => errors.push(String(error)));
const made = (given) => (given && given.Error ? new TypeError(given.Error) : given);
for (const [method, ...given] of job.calls) results.push((await client[method](...given.map(made))) ?? null);
await client.shutdown(60000);
process.stdout.write(JSON.stringify({ results, errors, reached: [...reached] }));
