// Asks a gateway through the official SDK, with nothing changed but its endpoint. Prints one line of JSON for each
// check, {"check":NAME,"ok":BOOL,...}, and ends with 0 only if all are ok.
//
// Environment: GPUTASKS_ENDPOINT (host:port, without a scheme: the SDK would take it for a host),
// GPUTASKS_ACCESS_KEY_ID, GPUTASKS_ACCESS_KEY_SECRET, GPUTASKS_API_KEY (or empty), GPUTASKS_IMAGE (the echo example's image),
// GPUTASKS_GPU (TYPE:MEMORY_MB, or empty for a function without GPU), GPUTASKS_TIMEOUT (s for a task to end, default 120).
'use strict';

const assert = require('node:assert');
const { Readable } = require('node:stream');
const sdk = require('@alicloud/fc20230330');
const { $OpenApiUtil } = require('@alicloud/openapi-core');
const { RuntimeOptions } = require('@darabonba/typescript');

const env = process.env;
const functionName = `sdk-${Date.now().toString(36)}`;
const patience = Number(env.GPUTASKS_TIMEOUT || 120) * 1000;
// Both must exceed the longest synchronous call: the SDK's connect timeout is also its idle limit.
const runtime = new RuntimeOptions({ connectTimeout: patience, readTimeout: patience });

function clientWith(accessKeyId, accessKeySecret) {
  return new sdk.default(new $OpenApiUtil.Config({
    accessKeyId, accessKeySecret, endpoint: env.GPUTASKS_ENDPOINT, protocol: 'http', regionId: 'local-1',
  }));
}

const client = clientWith(env.GPUTASKS_ACCESS_KEY_ID, env.GPUTASKS_ACCESS_KEY_SECRET);
let failed = 0;

async function check(name, run) {
  try {
    console.log(JSON.stringify({ check: name, ok: true, ...(await run()) }));
  } catch (e) {
    failed++;
    console.log(JSON.stringify({ check: name, ok: false, code: e.code, status: e.statusCode, error: String(e.message || e) }));
  }
}

async function refused(status, code, call) {
  try {
    await call();
  } catch (e) {
    assert.strictEqual(e.code, code);
    assert.strictEqual(e.statusCode, status);
    assert.ok(e.requestId, 'an error carries its request id');
    return { code: e.code, status: e.statusCode };
  }
  throw new Error(`was not refused; expected ${status} ${code}`);
}

function invoke(name, event, headers) {
  return client.invokeFunctionWithOptions(name,
    new sdk.InvokeFunctionRequest({ body: Readable.from(Buffer.from(JSON.stringify(event))) }), new sdk.InvokeFunctionHeaders(headers), runtime);
}

const submit = (taskId, event, name = functionName) => invoke(name, event, { xFcInvocationType: 'Async', xFcAsyncTaskId: taskId });

const getTask = async (taskId) => (await client.getAsyncTaskWithOptions(functionName, taskId, new sdk.GetAsyncTaskRequest({}), {}, runtime)).body;

const listTasks = async (filter) =>
  (await client.listAsyncTasksWithOptions(functionName, new sdk.ListAsyncTasksRequest(filter), {}, runtime)).body;

async function until(taskId, statuses) {
  const seen = [];
  for (const end = Date.now() + patience; ;) {
    const task = await getTask(taskId);
    if (seen.at(-1) !== task.status) seen.push(task.status);
    if (statuses.includes(task.status)) return { task, seen };
    if (Date.now() > end) throw new Error(`task ${taskId} is ${task.status}, not ${statuses}: ${task.taskErrorMessage}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function textOf(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function main() {
  const [gpuType, gpuMemory] = (env.GPUTASKS_GPU || '').split(':');
  await check('create function', async () => {
    const { body } = await client.createFunctionWithOptions(new sdk.CreateFunctionRequest({
      body: new sdk.CreateFunctionInput({
        functionName, runtime: 'custom-container', handler: 'index.handler', description: 'made by the SDK', timeout: 120,
        cpu: 0.5, memorySize: 512, diskSize: 512, environmentVariables: { WHO: 'sdk' },
        ...(gpuType ? { gpuConfig: new sdk.GPUConfig({ gpuType, gpuMemorySize: Number(gpuMemory) }) } : {}),
        customContainerConfig: new sdk.CustomContainerConfig({
          image: env.GPUTASKS_IMAGE || 'gputasks-echo', port: 9000,
          healthCheckConfig: new sdk.CustomHealthCheckConfig({
            httpGetUrl: '/ready', initialDelaySeconds: 0, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 60, successThreshold: 1,
          }),
        }),
      }),
    }), {}, runtime);
    assert.strictEqual(body.functionName, functionName);
    assert.strictEqual(body.state, 'Active');
    return { arn: body.functionArn };
  });

  await check('create it again', () => refused(409, 'FunctionAlreadyExists', () => client.createFunctionWithOptions(new sdk.CreateFunctionRequest({
    body: new sdk.CreateFunctionInput({
      functionName, runtime: 'custom-container', handler: 'h', customContainerConfig: new sdk.CustomContainerConfig({ image: 'x' }),
    }),
  }), {}, runtime)));

  await check('get function', async () => {
    const { body } = await client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({}), {}, runtime);
    assert.strictEqual(body.description, 'made by the SDK');
    assert.strictEqual(body.environmentVariables.WHO, 'sdk');
    assert.strictEqual(body.customContainerConfig.healthCheckConfig.failureThreshold, 60);
  });

  await check('update function', async () => {
    const { body } = await client.updateFunctionWithOptions(functionName, new sdk.UpdateFunctionRequest({
      body: new sdk.UpdateFunctionInput({ description: 'changed' }),
    }), {}, runtime);
    assert.strictEqual(body.description, 'changed');
    assert.strictEqual(body.timeout, 120);
  });

  await check('list functions', async () => {
    const { body } = await client.listFunctionsWithOptions(new sdk.ListFunctionsRequest({ prefix: functionName, limit: 100 }), {}, runtime);
    assert.deepStrictEqual(body.functions.map((f) => f.functionName), [functionName]);
  });

  await check('put async config', async () => {
    const { body } = await client.putAsyncInvokeConfigWithOptions(functionName, new sdk.PutAsyncInvokeConfigRequest({
      qualifier: 'LATEST', body: new sdk.PutAsyncInvokeConfigInput({ asyncTask: true, maxAsyncRetryAttempts: 0, maxAsyncEventAgeInSeconds: 3600 }),
    }), {}, runtime);
    assert.strictEqual(body.asyncTask, true);
    const read = await client.getAsyncInvokeConfigWithOptions(functionName, new sdk.GetAsyncInvokeConfigRequest({}), {}, runtime);
    assert.strictEqual(read.body.maxAsyncRetryAttempts, 0);
    const list = await client.listAsyncInvokeConfigsWithOptions(new sdk.ListAsyncInvokeConfigsRequest({ functionName }), {}, runtime);
    assert.strictEqual(list.body.configs.length, 1);
  });

  await check('submit with an own id', async () => {
    const answer = await submit('job_1', { mode: 'echo', value: 1 });
    assert.strictEqual(answer.statusCode, 202);
    assert.strictEqual(answer.headers['x-fc-async-task-id'], 'job_1');
    assert.ok(answer.headers['x-fc-request-id']);
  });

  await check('submit it again', () => refused(409, 'StatefulAsyncInvocationAlreadyExists', () => submit('job_1', { mode: 'echo' })));

  await check('poll to Succeeded', async () => {
    const { task, seen } = await until('job_1', ['Succeeded', 'Failed', 'Expired', 'Invalid']);
    assert.strictEqual(task.status, 'Succeeded', task.taskErrorMessage);
    assert.deepStrictEqual(JSON.parse(task.taskPayload), { mode: 'echo', value: 1 });
    assert.deepStrictEqual(JSON.parse(task.returnPayload), { mode: 'echo', value: 1 });
    assert.ok(task.endTime >= task.startedTime);
    assert.ok(task.events.length > 0 && task.events.every((e) => typeof e.eventDetail === 'string'));
    return { seen, durationMs: task.durationMs };
  });

  await check('submit without an id', async () => {
    const answer = await submit(undefined, { mode: 'echo' });
    const id = answer.headers['x-fc-async-task-id'];
    assert.strictEqual((await until(id, ['Succeeded'])).task.taskId, id);
    return { id };
  });

  await check('stop a running task', async () => {
    await submit('stop_1', { mode: 'sleep', seconds: 100 });
    await until('stop_1', ['Running']);
    const answer = await client.stopAsyncTaskWithOptions(functionName, 'stop_1', new sdk.StopAsyncTaskRequest({}), {}, runtime);
    assert.ok(answer.statusCode < 300);
    const { seen } = await until('stop_1', ['Stopped', 'Succeeded', 'Failed']);
    assert.strictEqual(seen.at(-1), 'Stopped');
    await client.stopAsyncTaskWithOptions(functionName, 'stop_1', new sdk.StopAsyncTaskRequest({}), {}, runtime);
    return { seen };
  });

  await check('list with filters', async () => {
    const stopped = await listTasks({ status: 'Stopped', prefix: 'stop_', limit: 100 });
    assert.deepStrictEqual(stopped.tasks.map((t) => t.taskId), ['stop_1']);
    const succeeded = await listTasks({ status: 'Succeeded', includePayload: true, sortOrderByTime: 'asc', startedTimeBegin: 1, startedTimeEnd: Date.now() + 60000 });
    assert.deepStrictEqual(JSON.parse(succeeded.tasks[0].taskPayload), { mode: 'echo', value: 1 });
    const none = await listTasks({ prefix: "job-1!*'() +/~é" });
    assert.deepStrictEqual(none.tasks, []);
    const ids = [];
    for (let nextToken; ;) {
      const page = await listTasks({ limit: 1, nextToken });
      ids.push(...page.tasks.map((t) => t.taskId));
      nextToken = page.nextToken;
      if (!nextToken) break;
    }
    assert.strictEqual(new Set(ids).size, 3);
    assert.strictEqual(ids.length, 3);
  });

  await check('call synchronously', async () => {
    const answer = await invoke(functionName, { mode: 'echo', value: 2 }, { xFcInvocationType: 'Sync', xFcLogType: 'Tail' });
    assert.strictEqual(answer.statusCode, 200);
    assert.deepStrictEqual(JSON.parse(await textOf(answer.body)), { mode: 'echo', value: 2 });
    assert.ok(answer.headers['x-fc-instance-id']);
    assert.ok('x-fc-log-result' in answer.headers);
    assert.ok(!('x-fc-error-type' in answer.headers));
    assert.match(answer.headers['x-fc-request-id'], /^r[0-9a-f]{32}$/);
    assert.match(answer.headers['x-fc-invocation-duration'], /^\d+$/);
    assert.strictEqual(answer.headers['x-fc-invocation-service-version'], 'LATEST');
    const { body } = await client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({}), {}, runtime);
    assert.strictEqual(answer.headers['x-fc-code-checksum'], body.codeChecksum);
    if (env.GPUTASKS_IMAGE) {
      assert.ok(Number(answer.headers['x-fc-max-memory-usage']) > 0);
      const log = Buffer.from(answer.headers['x-fc-log-result'], 'base64').toString();
      assert.ok(log.includes(`FC Invoke Start RequestId: ${answer.headers['x-fc-request-id']}`), log);
      const { instances } = (await client.listInstancesWithOptions(functionName, new sdk.ListInstancesRequest({}), {}, runtime)).body;
      assert.ok(instances.some((i) => i.instanceId === answer.headers['x-fc-instance-id']));
    }
  });

  await check('a failing function is no error', async () => {
    const answer = await invoke(functionName, { mode: 'fail', message: 'on purpose' }, {});
    assert.strictEqual(answer.statusCode, 200);
    assert.strictEqual(answer.headers['x-fc-error-type'], 'UnhandledInvocationError');
    assert.match(await textOf(answer.body), /on purpose/);
  });

  await check('unknown function', () => refused(404, 'FunctionNotFound', () => submit('job_2', {}, 'no-such-function')));
  await check('unknown task', () => refused(404, 'AsyncTaskNotFound', () => getTask('no_such_task')));
  await check('bad task id', () => refused(400, 'InvalidArgument', () => submit('1-bad', {})));
  await check('bad key', () => refused(403, 'InvalidAccessKeyID', () =>
    clientWith('unknown-key', 'secret').listFunctionsWithOptions(new sdk.ListFunctionsRequest({}), {}, runtime)));
  await check('bad secret', () => refused(403, 'SignatureNotMatch', () =>
    clientWith(env.GPUTASKS_ACCESS_KEY_ID, 'wrong-secret').listFunctionsWithOptions(new sdk.ListFunctionsRequest({}), {}, runtime)));
  await check('unknown operation', async () => {
    await refused(400, 'PathNotSupported', () => client.listCustomDomainsWithOptions(new sdk.ListCustomDomainsRequest({}), {}, runtime));
    await refused(400, 'PathNotSupported', () => client.listLayersWithOptions(new sdk.ListLayersRequest({}), {}, runtime));
    await refused(400, 'PathNotSupported', () => client.listVpcBindingsWithOptions(functionName, {}, runtime));
  });

  await check('timer trigger', async () => {
    const config = { cronExpression: '@every 60m', enable: false, payload: 'hello' };
    const body = (changes) => ({ body: new sdk.CreateTriggerInput({ triggerName: 'tick', triggerType: 'timer', triggerConfig: JSON.stringify(config), ...changes }) });
    const made = (await client.createTriggerWithOptions(functionName, new sdk.CreateTriggerRequest(body({})), {}, runtime)).body;
    assert.deepStrictEqual(JSON.parse(made.triggerConfig), config);
    await refused(409, 'TriggerAlreadyExists', () => client.createTriggerWithOptions(functionName, new sdk.CreateTriggerRequest(body({})), {}, runtime));
    await refused(400, 'InvalidArgument', () => client.createTriggerWithOptions(functionName, new sdk.CreateTriggerRequest(body({ triggerName: 'x', triggerConfig: '{"cronExpression":"never"}' })), {}, runtime));
    const next = { ...config, cronExpression: 'CRON_TZ=Asia/Shanghai 0 0 4 * * *' };
    const changed = (await client.updateTriggerWithOptions(functionName, 'tick', new sdk.UpdateTriggerRequest({
      body: new sdk.UpdateTriggerInput({ triggerConfig: JSON.stringify(next), description: 'at four' }) }), {}, runtime)).body;
    assert.deepStrictEqual([JSON.parse(changed.triggerConfig), changed.description], [next, 'at four']);
    assert.strictEqual((await client.getTriggerWithOptions(functionName, 'tick', {}, runtime)).body.triggerId, made.triggerId);
  });

  await check('http trigger', async () => {
    const create = (triggerName, config) => client.createTriggerWithOptions(functionName, new sdk.CreateTriggerRequest({
      body: new sdk.CreateTriggerInput({ triggerName, triggerType: 'http', triggerConfig: JSON.stringify(config) }) }), {}, runtime);
    const made = (await create('web', { authType: 'anonymous', methods: ['GET', 'POST', 'PUT'] })).body;
    const listed = (await client.listTriggersWithOptions(functionName, new sdk.ListTriggersRequest({ prefix: 'w', limit: 10 }), {}, runtime)).body;
    assert.deepStrictEqual(listed.triggers.map((t) => t.triggerName), ['web']);
    const answer = await fetch(`${made.httpTrigger.urlInternet}/a%2Fb/c?x=1&y=%20`, { method: 'PUT', body: 'some text', headers: { 'content-type': 'text/plain' } });
    assert.deepStrictEqual([answer.status, await answer.text()], [200, 'some text']);
    if (env.GPUTASKS_IMAGE) {
      assert.strictEqual(answer.headers.get('x-echo-method'), 'PUT');
      assert.strictEqual(answer.headers.get('x-echo-target'), '/a%2Fb/c?x=1&y=%20');
      assert.deepStrictEqual(answer.headers.getSetCookie(), ['a=1', 'b=2']);
      const wrong = await fetch(`${made.httpTrigger.urlInternet}/x?status=503`);
      assert.strictEqual(wrong.status, 503);
    }
    await client.deleteTriggerWithOptions(functionName, 'web', {}, runtime);
    await client.deleteTriggerWithOptions(functionName, 'tick', {}, runtime);
    await refused(404, 'TriggerNotFound', () => client.getTriggerWithOptions(functionName, 'web', {}, runtime));
  });

  await check('older signature and bearer token', async () => {
    const config = { endpoint: env.GPUTASKS_ENDPOINT, protocol: 'http', regionId: 'local-1' };
    const keys = { accessKeyId: env.GPUTASKS_ACCESS_KEY_ID, accessKeySecret: env.GPUTASKS_ACCESS_KEY_SECRET };
    const older = new sdk.default(new $OpenApiUtil.Config({ ...config, ...keys, signatureAlgorithm: 'v2' }));
    const found = (await older.listFunctionsWithOptions(new sdk.ListFunctionsRequest({ prefix: functionName, limit: 5 }), {}, runtime)).body;
    assert.deepStrictEqual(found.functions.map((f) => f.functionName), [functionName]);
    if (env.GPUTASKS_API_KEY) {
      const bearer = new sdk.default(new $OpenApiUtil.Config({ ...config, bearerToken: env.GPUTASKS_API_KEY }));
      assert.strictEqual((await bearer.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({}), {}, runtime)).body.functionName, functionName);
    }
  });

  await check('concurrency, provision and scaling configs', async () => {
    await refused(404, 'OnDemandConfigNotFound', () => client.getConcurrencyConfigWithOptions(functionName, {}, runtime));
    const limit = await client.putConcurrencyConfigWithOptions(functionName, new sdk.PutConcurrencyConfigRequest({
      body: new sdk.PutConcurrencyInput({ reservedConcurrency: 9 }),
    }), {}, runtime);
    assert.strictEqual(limit.body.reservedConcurrency, 9);
    const limits = await client.listConcurrencyConfigsWithOptions(new sdk.ListConcurrencyConfigsRequest({ functionName }), {}, runtime);
    assert.strictEqual(limits.body.configs[0].reservedConcurrency, 9);
    const none = await client.getProvisionConfigWithOptions(functionName, new sdk.GetProvisionConfigRequest({}), {}, runtime);
    assert.strictEqual(none.body.functionArn, '');
    const provision = await client.putProvisionConfigWithOptions(functionName, new sdk.PutProvisionConfigRequest({
      qualifier: 'LATEST',
      body: new sdk.PutProvisionConfigInput({
        defaultTarget: 0, alwaysAllocateGPU: false,
        scheduledActions: [new sdk.ScheduledAction({ name: 'day', scheduleExpression: 'cron(0 0 8 * * *)', target: 1, startTime: '2090-01-01T00:00:00Z', timeZone: 'Asia/Shanghai' })],
      }),
    }), {}, runtime);
    assert.strictEqual(provision.body.current, 0);
    assert.strictEqual(provision.body.scheduledActions[0].target, 1);
    const provisions = await client.listProvisionConfigsWithOptions(new sdk.ListProvisionConfigsRequest({ functionName }), {}, runtime);
    assert.strictEqual(provisions.body.provisionConfigs.length, 1);
    const scaling = await client.putScalingConfigWithOptions(functionName, new sdk.PutScalingConfigRequest({
      qualifier: 'LATEST', body: new sdk.PutScalingConfigInput({ minInstances: 0, enableOnDemandScaling: true }),
    }), {}, runtime);
    assert.strictEqual(scaling.body.targetInstances, 0);
    assert.strictEqual((await client.getScalingConfigWithOptions(functionName, new sdk.GetScalingConfigRequest({}), {}, runtime)).body.enableOnDemandScaling, true);
    const scalings = await client.listScalingConfigsWithOptions(new sdk.ListScalingConfigsRequest({ functionName }), {}, runtime);
    assert.strictEqual(scalings.body.scalingConfigs.length, 1);
    await client.deleteScalingConfigWithOptions(functionName, new sdk.DeleteScalingConfigRequest({}), {}, runtime);
    await client.deleteProvisionConfigWithOptions(functionName, new sdk.DeleteProvisionConfigRequest({}), {}, runtime);
    await client.deleteConcurrencyConfigWithOptions(functionName, {}, runtime);
  });

  await check('versions and aliases', async () => {
    const publish = async (description) => (await client.publishFunctionVersionWithOptions(functionName, new sdk.PublishFunctionVersionRequest({
      body: new sdk.PublishVersionInput({ description }) }), {}, runtime)).body;
    const [one, two] = [await publish('first'), await publish('second')];
    assert.deepStrictEqual([one.versionId, one.description, two.versionId], ['1', 'first', '2']);
    const listed = (await client.listFunctionVersionsWithOptions(functionName, new sdk.ListFunctionVersionsRequest({ direction: 'BACKWARD', limit: 1 }), {}, runtime)).body;
    assert.deepStrictEqual(listed.versions.map((v) => v.versionId), ['2']);
    const rest = (await client.listFunctionVersionsWithOptions(functionName, new sdk.ListFunctionVersionsRequest({ direction: 'BACKWARD', nextToken: listed.nextToken }), {}, runtime)).body;
    assert.deepStrictEqual([rest.versions.map((v) => v.versionId), rest.direction], [['1'], 'BACKWARD']);
    const alias = (await client.createAliasWithOptions(functionName, new sdk.CreateAliasRequest({
      body: new sdk.CreateAliasInput({ aliasName: 'prod', versionId: '1', description: 'served', additionalVersionWeight: { 2: 0.5 } }) }), {}, runtime)).body;
    assert.deepStrictEqual([alias.aliasName, alias.versionId, alias.additionalVersionWeight], ['prod', '1', { 2: 0.5 }]);
    await refused(409, 'AliasAlreadyExists', () => client.createAliasWithOptions(functionName, new sdk.CreateAliasRequest({
      body: new sdk.CreateAliasInput({ aliasName: 'prod', versionId: '1' }) }), {}, runtime));
    const changed = (await client.updateAliasWithOptions(functionName, 'prod', new sdk.UpdateAliasRequest({
      body: new sdk.UpdateAliasInput({ versionId: '2', additionalVersionWeight: {} }) }), {}, runtime)).body;
    assert.deepStrictEqual([changed.versionId, changed.description], ['2', 'served']);
    const read = (await client.getAliasWithOptions(functionName, 'prod', {}, runtime)).body;
    assert.deepStrictEqual([read.versionId, read.additionalVersionWeight], ['2', {}]);
    const aliases = (await client.listAliasesWithOptions(functionName, new sdk.ListAliasesRequest({ prefix: 'pr' }), {}, runtime)).body;
    assert.deepStrictEqual(aliases.aliases.map((a) => a.aliasName), ['prod']);

    // A call, a config and a read by qualifier.
    const answer = await client.invokeFunctionWithOptions(functionName,
      new sdk.InvokeFunctionRequest({ qualifier: 'prod', body: Readable.from(Buffer.from('{"mode":"echo","value":3}')) }), new sdk.InvokeFunctionHeaders({}), runtime);
    assert.deepStrictEqual(JSON.parse(await textOf(answer.body)), { mode: 'echo', value: 3 });
    const version = (await client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({ qualifier: 'prod' }), {}, runtime)).body;
    assert.match(version.functionArn, /\/2$/);
    const provision = (await client.putProvisionConfigWithOptions(functionName, new sdk.PutProvisionConfigRequest({
      qualifier: 'prod', body: new sdk.PutProvisionConfigInput({ defaultTarget: 0 }) }), {}, runtime)).body;
    assert.match(provision.functionArn, /\/prod$/);
    await refused(400, 'InvalidArgument', () => client.deleteFunctionVersionWithOptions(functionName, '2', {}, runtime));
    await client.deleteAliasWithOptions(functionName, 'prod', {}, runtime);
    await client.deleteFunctionVersionWithOptions(functionName, '2', {}, runtime);
    await refused(404, 'AliasNotFound', () => client.getAliasWithOptions(functionName, 'prod', {}, runtime));
    await refused(404, 'VersionNotFound', () => client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({ qualifier: '2' }), {}, runtime));
    const none = (await client.listProvisionConfigsWithOptions(new sdk.ListProvisionConfigsRequest({ functionName }), {}, runtime)).body;
    assert.strictEqual(none.provisionConfigs.length, 0);
  });

  await check('tags', async () => {
    const { functionArn } = (await client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({}), {}, runtime)).body;
    await client.tagResourcesWithOptions(new sdk.TagResourcesRequest({ body: new sdk.TagResourcesInput({
      resourceId: [functionArn], resourceType: 'function', tag: [new sdk.Tag({ key: 'team', value: 'audio' }), new sdk.Tag({ key: 'k', value: 'v' })] }) }), {}, runtime);
    const list = async () => (await client.listTagResourcesWithOptions(new sdk.ListTagResourcesRequest({
      resourceType: 'ALIYUN::FC::FUNCTION', resourceId: [functionArn] }), {}, runtime)).body.tagResources.map((t) => [t.tagKey, t.tagValue]).sort();
    assert.deepStrictEqual(await list(), [['k', 'v'], ['team', 'audio']]);
    const found = (await client.listFunctionsWithOptions(new sdk.ListFunctionsRequest({ tags: [new sdk.Tag({ key: 'team', value: 'audio' })], prefix: functionName }), {}, runtime)).body;
    assert.deepStrictEqual(found.functions.map((f) => f.functionName), [functionName]);
    await client.untagResourcesWithOptions(new sdk.UntagResourcesRequest({ resourceType: 'function', resourceId: [functionArn], tagKey: ['k'] }), {}, runtime);
    assert.deepStrictEqual(await list(), [['team', 'audio']]);
    await client.untagResourcesWithOptions(new sdk.UntagResourcesRequest({ resourceType: 'function', resourceId: [functionArn], all: true }), {}, runtime);
    assert.deepStrictEqual(await list(), []);
  });

  await check('instances, code and regions', async () => {
    const { body } = await client.listInstancesWithOptions(functionName, new sdk.ListInstancesRequest({ qualifier: 'LATEST', withAllActive: true, instanceStatus: ['Running'] }), {}, runtime);
    assert.ok(body.requestId);
    assert.ok(body.instances.every((i) => i.versionId === '0' && i.instanceId));
    const code = (await client.getFunctionCodeWithOptions(functionName, new sdk.GetFunctionCodeRequest({}), {}, runtime)).body;
    assert.ok(code.checksum);
    const regions = (await client.describeRegionsWithOptions(new sdk.DescribeRegionsRequest({}), {}, runtime)).body;
    assert.deepStrictEqual(regions.regions.region.map((r) => r.regionId), ['local-1']);
    return { instances: body.instances.length };
  });

  await check('calls switched off and on', async () => {
    const off = (await client.disableFunctionInvocationWithOptions(functionName, new sdk.DisableFunctionInvocationRequest({
      reason: 'maintenance', abortOngoingRequest: true }), {}, runtime)).body;
    assert.strictEqual(off.success, true);
    await refused(403, 'AccessDenied', () => invoke(functionName, { mode: 'echo' }, {}));
    await refused(403, 'AccessDenied', () => submit('job_off', { mode: 'echo' }));
    const { body } = await client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({}), {}, runtime);
    assert.deepStrictEqual([body.invocationRestriction.disable, body.invocationRestriction.reason], [true, 'maintenance']);
    assert.strictEqual((await client.enableFunctionInvocationWithOptions(functionName, {}, runtime)).body.success, true);
    assert.strictEqual((await invoke(functionName, { mode: 'echo' }, {})).statusCode, 200);
  });

  await check('delete function', async () => {
    await client.deleteAsyncInvokeConfigWithOptions(functionName, new sdk.DeleteAsyncInvokeConfigRequest({}), {}, runtime);
    await client.deleteFunctionWithOptions(functionName, {}, runtime);
    await refused(404, 'FunctionNotFound', () => client.getFunctionWithOptions(functionName, new sdk.GetFunctionRequest({}), {}, runtime));
  });
  process.exitCode = failed === 0 ? 0 : 1;
}

main();
