// Preloaded into a Node process with --require: whom it connects to, as JSON lines in the file named by HOSTS.
const { subscribe } = require('node:diagnostics_channel');
const { appendFileSync } = require('node:fs');

const note = (host, port) => appendFileSync(process.env.HOSTS, `${JSON.stringify([host, port])}\n`);

subscribe('net.client.socket', ({ socket }) => {
  // Names are looked up, addresses are connected to as they are.
  socket.on('lookup', (_error, address, _family, host) => { if (host !== address) note(host, null); });
  socket.on('connectionAttempt', (address, port) => note(address, port));
});
