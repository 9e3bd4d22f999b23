// Drives the old API's npm client, unmodified: a job as JSON on standard input, what the client made of it as JSON
// on standard output. A job logs in with a secret, or uses a token as it is, and then makes its calls in order:
//
//   {url, subscription, tenant, clientId, secret | token, calls: [{call: "exportTasks.list", args: [...]}]}
//
// In arguments {"$date": "..."} is a Date and {"$next": 0} the nextLink of call 0; in results Dates are written the
// same way, so that a test can tell one from text.
const msRest = require('ms-rest');
const msRestAzure = require('ms-rest-azure');
const MobileEngagementClient = require('azure-arm-mobileengagement');

function revive(value, results) {
  if (value === null || typeof value !== 'object') return value;
  if ('$date' in value) return new Date(value.$date);
  if ('$next' in value) return results[value.$next].nextLink;
  if (Array.isArray(value)) return value.map((item) => revive(item, results));
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, revive(item, results)]));
}

function plain(value) {
  if (value instanceof Date) return { $date: value.toISOString() };
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item)]));
}

function failure(error) {
  const { statusCode, code, message, body } = error;
  return { error: { statusCode, code, message, body } };
}

async function credentials(job) {
  if (job.token !== undefined) return new msRest.TokenCredentials(job.token);
  const environment = msRestAzure.AzureEnvironment.add({
    name: 'Outhaul',
    portalUrl: job.url,
    managementEndpointUrl: job.url,
    resourceManagerEndpointUrl: job.url + '/',
    activeDirectoryEndpointUrl: job.url + '/',
    activeDirectoryResourceId: 'https://management.core.windows.net/',
    validateAuthority: false,
  });
  return msRestAzure.loginWithServicePrincipalSecret(job.clientId, job.secret, job.tenant, { environment });
}

async function run(job) {
  const client = new MobileEngagementClient(await credentials(job), job.subscription, job.url, {
    noRetryPolicy: !job.retry,
  });
  const results = [];
  for (const { call, args } of job.calls) {
    const [group, operation] = call.split('.');
    try {
      const value = await client[group][operation](...args.map((arg) => revive(arg, results)));
      results.push({ value: plain(value), isArray: Array.isArray(value), nextLink: value && value.nextLink });
    } catch (error) {
      results.push(failure(error));
    }
  }
  return results;
}

let input = '';
process.stdin.on('data', (chunk) => { input += chunk; });
process.stdin.on('end', () => {
  run(JSON.parse(input))
    .catch((error) => ({ login: String(error.message || error) }))
    .then((output) => process.stdout.write(JSON.stringify(output)));
});
