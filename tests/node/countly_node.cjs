// Drives Countly's Node SDK, unmodified: a job as JSON in the first line of standard input, until that input is closed.
//
//   {options, calls: [[method, argument, ...]], bulk: [[user, method, argument, ...]]}
//
// A method may be one of `userData`, and `sleep` waits. An argument {"Error": message} becomes an error. With `bulk` its bulk
// mode is used, and `user` are the options of a user. What is printed at the end is {reached}: the hosts that were connected
// to, as host:port.
const net = require('node:net');
const readline = require('node:readline');

const reached = new Set();
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const { host, port } = [given[0]].flat()[0] ?? {};
  reached.add(`${host}:${port}`);
  return connect.apply(this, given);
};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const made = (given) => (given && given.Error ? new TypeError(given.Error) : given);
const input = readline.createInterface({ input: process.stdin });
input.on('close', () => process.stdout.write(JSON.stringify({ reached: [...reached] }), () => process.exit(0)));
input.once('line', async (line) => {
  const job = JSON.parse(line);
  if (job.bulk) {
    const Bulk = require('countly-sdk-nodejs/lib/countly-bulk');
    const server = new Bulk(job.options);
    for (const [user, method, ...given] of job.bulk) server.add_user(user)[method](...given);
    server.start();
    return;
  }
  const Countly = require('countly-sdk-nodejs');
  Countly.init(job.options);
  for (const [method, ...given] of job.calls) {
    if (method === 'sleep') await sleep(...given);
    else if (method === 'reject') Promise.reject(made(...given));
    else {
      const path = method.split('.');
      const target = path.length > 1 ? Countly[path[0]] : Countly;
      target[path.at(-1)](...given.map(made));
    }
  }
});
